"""A stack as a CloudFormation template, in JSON. What is said stands in definition.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from infra.alarms import Alarm, Series
from infra.definition import Parameter, Resource, Stack
from infra.names import logical
from infra.permissions import Statement

Document: TypeAlias = dict[str, Any]
_TOKEN = re.compile(r"\$\{(partition|account|param\.\w+|arn\.\w+|stream\.[^}]+)\}")
RETENTION_DAYS = 30


def template(stack: Stack) -> Document:
    """The template of a stack."""
    render = _Renderer(stack)
    resources = {r.key: render.resource(r) for r in stack.resources}
    resources |= {alarm.key: render.alarm(alarm) for alarm in stack.alarms}
    text = f"Replicator in {stack.region}, mode {stack.mode}. Made by infra/generate.py."
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": text,
        "Parameters": {p.name: _parameter(p) for p in stack.parameters},
        "Resources": resources,
    }


def _parameter(parameter: Parameter) -> Document:
    kind = "CommaDelimitedList" if parameter.many else "String"
    document = {"Type": kind, "Description": parameter.text}
    return document if parameter.default is None else {**document, "Default": parameter.default}


def _watched(alarm: Alarm) -> Document:
    """One metric, or an expression over two."""
    if alarm.expression is not None:
        queries = [
            {"Id": name, "MetricStat": _stat(alarm, series), "ReturnData": False}
            for name, series in alarm.inputs.items()
        ]
        watched = {"Id": "watched", "Expression": alarm.expression, "ReturnData": True}
        return {"Metrics": [watched, *queries]}
    return {
        "Namespace": alarm.namespace,
        "MetricName": alarm.metric,
        "Dimensions": _dimensions(alarm.dimensions),
        "Statistic": alarm.statistic,
        "Period": alarm.period_s,
    }


def _stat(alarm: Alarm, series: Series) -> Document:
    metric = {
        "Namespace": series.namespace,
        "MetricName": series.metric,
        "Dimensions": _dimensions(series.dimensions),
    }
    return {"Metric": metric, "Stat": alarm.statistic, "Period": alarm.period_s}


def _dimensions(dimensions: Mapping[str, str]) -> list[Document]:
    return [{"Name": name, "Value": value} for name, value in dimensions.items()]


class _Renderer:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._kms = any(parameter.name == "KmsKeyArn" for parameter in stack.parameters)

    def resource(self, resource: Resource) -> Document:
        kinds: Mapping[str, Callable[[Mapping[str, Any]], Document]] = {
            "table": self._table,
            "queue": self._queue,
            "logs": self._logs,
            "function": self._function,
            "mapping": self._mapping,
            "queue_mapping": self._queue_mapping,
            "task": self._task,
            "service": self._service,
            "role": self._role,
            "dashboard": self._dashboard,
        }
        return kinds[resource.kind](resource.properties)

    def alarm(self, alarm: Alarm) -> Document:
        properties = {
            "AlarmName": alarm.name,
            "AlarmDescription": alarm.description,
            **_watched(alarm),
            "EvaluationPeriods": alarm.periods,
            "Threshold": alarm.threshold,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": alarm.missing,
            "AlarmActions": [{"Ref": "AlarmTopicArn"}],
        }
        return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}

    def _table(self, of: Mapping[str, Any]) -> Document:
        keys, roles = of["keys"], ("HASH", "RANGE")
        properties: Document = {
            "TableName": of["name"],
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [
                {"AttributeName": name, "KeyType": role}
                for name, role in zip(keys, roles, strict=False)
            ],
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in keys.items()
            ],
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            "DeletionProtectionEnabled": True,
        }
        if of["ttl"]:
            ttl = {"AttributeName": of["ttl"], "Enabled": True}
            properties["TimeToLiveSpecification"] = ttl
        if of["stream"]:
            properties["StreamSpecification"] = {"StreamViewType": of["stream"]}
        if of["kms"]:
            properties["SSESpecification"] = {
                "SSEEnabled": True,
                "SSEType": "KMS",
                "KMSMasterKeyId": self.text(of["kms"]),
            }
        # Also where its creation is rolled back: it is protected, so that deleting it would fail.
        kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
        return {"Type": "AWS::DynamoDB::Table", **kept, "Properties": properties}

    def _queue(self, of: Mapping[str, Any]) -> Document:
        seconds = 14 * 24 * 3600
        properties = {
            "QueueName": of["name"],
            "VisibilityTimeout": of["hidden_s"],
            "MessageRetentionPeriod": seconds,
        }
        if of["kms"]:
            properties["KmsMasterKeyId"] = self.text(of["kms"])
        else:
            properties["SqsManagedSseEnabled"] = True
        return {
            "Type": "AWS::SQS::Queue",
            "DeletionPolicy": "RetainExceptOnCreate",
            "UpdateReplacePolicy": "Retain",
            "Properties": properties,
        }

    def _logs(self, of: Mapping[str, Any]) -> Document:
        properties: Document = {"LogGroupName": of["name"], "RetentionInDays": RETENTION_DAYS}
        if of["kms"]:
            properties["KmsKeyId"] = self.text(of["kms"])
        return {
            "Type": "AWS::Logs::LogGroup",
            "DeletionPolicy": "Delete",
            "UpdateReplacePolicy": "Delete",
            "Properties": properties,
        }

    def _function(self, of: Mapping[str, Any]) -> Document:
        properties = {
            "FunctionName": of["name"],
            "Handler": of["handler"],
            "Runtime": of["runtime"],
            "Architectures": [of["architecture"]],
            "MemorySize": of["memory_mb"],
            "Timeout": of["timeout_s"],
            "Role": {"Fn::GetAtt": ["Role", "Arn"]},
            "Code": {"S3Bucket": self.text(of["bucket"]), "S3Key": self.text(of["object"])},
            "Environment": {"Variables": self.texts(of["environment"])},
            "LoggingConfig": {"LogGroup": {"Ref": "Logs"}},
        }
        return {"Type": "AWS::Lambda::Function", "Properties": properties}

    def _mapping(self, of: Mapping[str, Any]) -> Document:
        settings = of["settings"]
        properties = {
            "FunctionName": {"Ref": "Function"},
            "EventSourceArn": self.text(of["stream"]),
            "BatchSize": settings.batch_size,
            "MaximumBatchingWindowInSeconds": settings.window_s,
            "ParallelizationFactor": settings.parallelization,
            "BisectBatchOnFunctionError": settings.bisect,
            "MaximumRetryAttempts": settings.attempts_max,
            "MaximumRecordAgeInSeconds": settings.age_s_max,
            "FunctionResponseTypes": list(settings.response_types),
            "StartingPosition": settings.starting_position,
            "DestinationConfig": {
                "OnFailure": {"Destination": {"Fn::GetAtt": ["Failures", "Arn"]}}
            },
        }
        return {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}

    def _queue_mapping(self, of: Mapping[str, Any]) -> Document:
        properties = {
            "FunctionName": {"Ref": "Function"},
            "EventSourceArn": self.text(of["queue"]),
            "BatchSize": of["batch_size"],
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
        }
        return {"Type": "AWS::Lambda::EventSourceMapping", "Properties": properties}

    def _task(self, of: Mapping[str, Any]) -> Document:
        logs = {
            "awslogs-group": {"Ref": "Logs"},
            "awslogs-region": {"Ref": "AWS::Region"},
            "awslogs-stream-prefix": "replicator",
        }
        environment = self.texts(of["environment"])
        liveness = of["liveness"]
        health = {
            "Command": of["asked"],
            "Interval": liveness.interval_s,
            "Timeout": liveness.timeout_s,
            "Retries": liveness.retries,
            "StartPeriod": liveness.start_s,
        }
        container = {
            "Name": "replicator",
            "Image": self.text(of["image"]),
            "Command": [self.text(word) for word in of["command"]],
            "Environment": [{"Name": name, "Value": value} for name, value in environment.items()],
            "Essential": True,
            "ReadonlyRootFilesystem": True,
            "StopTimeout": 60,
            "HealthCheck": health,
            "LogConfiguration": {"LogDriver": "awslogs", "Options": logs},
        }
        secrets = self.texts(of["secrets"])
        if secrets:
            container["Secrets"] = [
                {"Name": name, "ValueFrom": place} for name, place in secrets.items()
            ]
        properties = {
            "Family": of["name"],
            "RequiresCompatibilities": ["FARGATE"],
            "NetworkMode": "awsvpc",
            "Cpu": of["cpu"],
            "Memory": of["memory"],
            "RuntimePlatform": {"CpuArchitecture": "ARM64", "OperatingSystemFamily": "LINUX"},
            "TaskRoleArn": {"Fn::GetAtt": ["Role", "Arn"]},
            "ExecutionRoleArn": {"Ref": "ExecutionRoleArn"},
            "ContainerDefinitions": [container],
        }
        return {"Type": "AWS::ECS::TaskDefinition", "Properties": properties}

    def _service(self, of: Mapping[str, Any]) -> Document:
        network = {
            "AssignPublicIp": "DISABLED",
            "Subnets": {"Ref": "Subnets"},
            "SecurityGroups": {"Ref": "SecurityGroups"},
        }
        properties = {
            "ServiceName": of["name"],
            "Cluster": {"Ref": "ClusterArn"},
            "TaskDefinition": {"Ref": "Task"},
            "LaunchType": "FARGATE",
            "DesiredCount": 1,
            "DeploymentConfiguration": {
                "MinimumHealthyPercent": 0,
                "MaximumPercent": 100,
                # Else a stack waits for hours for a task that ends again and again.
                "DeploymentCircuitBreaker": {"Enable": True, "Rollback": True},
            },
            "NetworkConfiguration": {"AwsvpcConfiguration": network},
        }
        return {"Type": "AWS::ECS::Service", "Properties": properties}

    def _role(self, of: Mapping[str, Any]) -> Document:
        principals: list[Document] = [{"AWS": self.text(who)} for who in of["trusted"]]
        trust = [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
            for principal in principals or [{"Service": of["service"]}]
        ]
        policy = {
            "PolicyName": "replicator",
            "PolicyDocument": {
                "Version": "2012-10-17",
                "Statement": [self._statement(statement) for statement in of["statements"]],
            },
        }
        properties = {
            "RoleName": of["name"],
            **({} if of["path"] == "/" else {"Path": of["path"]}),
            "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": trust},
            "Policies": [policy],
        }
        return {"Type": "AWS::IAM::Role", "Properties": properties}

    def _statement(self, statement: Statement) -> Document:
        document: Document = {
            "Sid": statement.sid,
            "Effect": "Allow",
            "Action": list(statement.actions),
            "Resource": [self.text(resource) for resource in statement.resources],
        }
        if statement.conditions:
            document["Condition"] = {
                operator: self.texts(pairs) for operator, pairs in statement.conditions.items()
            }
        return document

    def _dashboard(self, of: Mapping[str, Any]) -> Document:
        properties = {"DashboardName": of["name"], "DashboardBody": json.dumps(of["body"])}
        return {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}

    def texts(self, values: Mapping[str, str]) -> Document:
        """A map with its tokens rendered."""
        return {name: self.text(value) for name, value in values.items()}

    def text(self, value: str) -> Any:
        """A text with its tokens rendered: a reference, if it is nothing but one."""
        whole = _TOKEN.fullmatch(value)
        if whole is not None:
            return self._reference(whole.group(1))
        rendered = _TOKEN.sub(lambda match: self._within(match.group(1)), value)
        return value if rendered == value and "${" not in value else {"Fn::Sub": rendered}

    def _reference(self, token: str) -> Document:
        kind, _, name = token.partition(".")
        match kind:
            case "param":
                return {"Ref": name}
            case "arn":
                return {"Fn::GetAtt": [name, "Arn"]}
            case "stream" if name in self._stack.created:
                return {"Fn::GetAtt": [f"Table{logical(name)}", "StreamArn"]}
            case "stream":
                return {"Ref": f"StreamArn{logical(name)}"}
            case "account":
                return {"Ref": "AWS::AccountId"}
            case _:
                return {"Ref": "AWS::Partition"}

    def _within(self, reference: str) -> str:
        (function, of), *_ = self._reference(reference).items()
        inner = of if function == "Ref" else ".".join(of)
        if reference == "arn.Logs":  # GetAtt Logs.Arn ends with `:*`
            return "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}:log-group:${Logs}"
        return f"${{{inner}}}"
