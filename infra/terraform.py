"""A stack as a Terraform module, in its JSON syntax. What is said stands in definition.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from infra.alarms import Alarm, Series
from infra.cloudformation import RETENTION_DAYS
from infra.definition import Parameter, Resource, Stack
from infra.names import logical, snake
from infra.permissions import Statement

Document: TypeAlias = dict[str, Any]
_TOKEN = re.compile(r"\$\{(partition|account|param\.\w+|arn\.\w+|stream\.[^}]+)\}")

TYPES: Mapping[str, str] = {
    "table": "aws_dynamodb_table",
    "queue": "aws_sqs_queue",
    "logs": "aws_cloudwatch_log_group",
    "function": "aws_lambda_function",
    "mapping": "aws_lambda_event_source_mapping",
    "queue_mapping": "aws_lambda_event_source_mapping",
    "task": "aws_ecs_task_definition",
    "service": "aws_ecs_service",
    "role": "aws_iam_role",
    "dashboard": "aws_cloudwatch_dashboard",
}


def module(stack: Stack) -> Document:
    """The module of a stack: one `main.tf.json`."""
    render = _Renderer(stack)
    resources: dict[str, dict[str, Document]] = {}
    for resource in stack.resources:
        kind = TYPES[resource.kind]
        resources.setdefault(kind, {})[snake(resource.key)] = render.resource(resource)
        if resource.kind == "role":
            policies = resources.setdefault("aws_iam_role_policy", {})
            policies[snake(resource.key)] = render.policy(resource)
    if stack.alarms:
        resources["aws_cloudwatch_metric_alarm"] = {
            snake(alarm.key): render.alarm(alarm) for alarm in stack.alarms
        }
    text = f"Replicator in {stack.region}, mode {stack.mode}. Made by infra/generate.py."
    return {
        "//": text,
        "terraform": {
            "required_version": ">= 1.5",
            "required_providers": {"aws": {"source": "hashicorp/aws", "version": ">= 5.60"}},
        },
        "variable": {snake(p.name): _variable(p) for p in stack.parameters},
        "data": {
            "aws_partition": {"current": {}},
            "aws_caller_identity": {"current": {}},
            "aws_region": {"current": {}},
        },
        "resource": resources,
    }


def _variable(parameter: Parameter) -> Document:
    kind = "list(string)" if parameter.many else "string"
    document = {"type": kind, "description": parameter.text}
    return document if parameter.default is None else {**document, "default": parameter.default}


def _watched(alarm: Alarm) -> Document:
    """One metric, or an expression over two."""
    if alarm.expression is not None:
        queries = [
            {"id": name, "metric": _stat(alarm, series), "return_data": False}
            for name, series in alarm.inputs.items()
        ]
        watched = {"id": "watched", "expression": alarm.expression, "return_data": True}
        return {"metric_query": [watched, *queries]}
    return {
        "namespace": alarm.namespace,
        "metric_name": alarm.metric,
        "dimensions": dict(alarm.dimensions),
        "statistic": alarm.statistic,
        "period": alarm.period_s,
    }


def _stat(alarm: Alarm, series: Series) -> Document:
    return {
        "namespace": series.namespace,
        "metric_name": series.metric,
        "dimensions": dict(series.dimensions),
        "stat": alarm.statistic,
        "period": alarm.period_s,
    }


class _Renderer:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._kinds = {r.key: TYPES[r.kind] for r in stack.resources}

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
        return {
            "alarm_name": alarm.name,
            "alarm_description": alarm.description,
            **_watched(alarm),
            "evaluation_periods": alarm.periods,
            "threshold": alarm.threshold,
            "comparison_operator": "GreaterThanOrEqualToThreshold",
            "treat_missing_data": alarm.missing,
            "alarm_actions": ["${var.alarm_topic_arn}"],
        }

    def policy(self, resource: Resource) -> Document:
        statements = resource.properties["statements"]
        document = {"Version": "2012-10-17", "Statement": [self._statement(s) for s in statements]}
        return {
            "name": "replicator",
            "role": f"${{aws_iam_role.{snake(resource.key)}.id}}",
            "policy": json.dumps(document),
        }

    def _statement(self, statement: Statement) -> Document:
        document: Document = {
            "Sid": statement.sid,
            "Effect": "Allow",
            "Action": list(statement.actions),
            "Resource": [self.text(resource) for resource in statement.resources],
        }
        if statement.conditions:
            document["Condition"] = {
                operator: {name: self.text(value) for name, value in pairs.items()}
                for operator, pairs in statement.conditions.items()
            }
        return document

    def _table(self, of: Mapping[str, Any]) -> Document:
        keys = dict(zip(("hash_key", "range_key"), of["keys"], strict=False))
        document: Document = {
            "name": of["name"],
            "billing_mode": "PAY_PER_REQUEST",
            **keys,
            "attribute": [{"name": name, "type": kind} for name, kind in of["keys"].items()],
            "point_in_time_recovery": {"enabled": True},
            "deletion_protection_enabled": True,
            "lifecycle": {"prevent_destroy": True},
        }
        if of["ttl"]:
            document["ttl"] = {"attribute_name": of["ttl"], "enabled": True}
        if of["stream"]:
            document |= {"stream_enabled": True, "stream_view_type": of["stream"]}
        if of["kms"]:
            kms = {"enabled": True, "kms_key_arn": self.text(of["kms"])}
            document["server_side_encryption"] = kms
        return document

    def _queue(self, of: Mapping[str, Any]) -> Document:
        seconds = 14 * 24 * 3600
        document = {
            "name": of["name"],
            "visibility_timeout_seconds": of["hidden_s"],
            "message_retention_seconds": seconds,
            "lifecycle": {"prevent_destroy": True},
        }
        if of["kms"]:
            return {**document, "kms_master_key_id": self.text(of["kms"])}
        return {**document, "sqs_managed_sse_enabled": True}

    def _logs(self, of: Mapping[str, Any]) -> Document:
        document = {"name": of["name"], "retention_in_days": RETENTION_DAYS}
        return {**document, "kms_key_id": self.text(of["kms"])} if of["kms"] else document

    def _function(self, of: Mapping[str, Any]) -> Document:
        environment = {name: self.text(value) for name, value in of["environment"].items()}
        return {
            "function_name": of["name"],
            "handler": of["handler"],
            "runtime": of["runtime"],
            "architectures": [of["architecture"]],
            "memory_size": of["memory_mb"],
            "timeout": of["timeout_s"],
            "role": "${aws_iam_role.role.arn}",
            "s3_bucket": self.text(of["bucket"]),
            "s3_key": self.text(of["object"]),
            "environment": {"variables": environment},
            "logging_config": {
                "log_format": "Text",
                "log_group": "${aws_cloudwatch_log_group.logs.name}",
            },
        }

    def _mapping(self, of: Mapping[str, Any]) -> Document:
        settings = of["settings"]
        return {
            "function_name": "${aws_lambda_function.function.arn}",
            "event_source_arn": self.text(of["stream"]),
            "batch_size": settings.batch_size,
            "maximum_batching_window_in_seconds": settings.window_s,
            "parallelization_factor": settings.parallelization,
            "bisect_batch_on_function_error": settings.bisect,
            "maximum_retry_attempts": settings.attempts_max,
            "maximum_record_age_in_seconds": settings.age_s_max,
            "function_response_types": list(settings.response_types),
            "starting_position": settings.starting_position,
            "destination_config": {
                "on_failure": {"destination_arn": "${aws_sqs_queue.failures.arn}"}
            },
        }

    def _queue_mapping(self, of: Mapping[str, Any]) -> Document:
        return {
            "function_name": "${aws_lambda_function.function.arn}",
            "event_source_arn": self.text(of["queue"]),
            "batch_size": of["batch_size"],
            "function_response_types": ["ReportBatchItemFailures"],
        }

    def _task(self, of: Mapping[str, Any]) -> Document:
        logs = {
            "awslogs-group": "${aws_cloudwatch_log_group.logs.name}",
            "awslogs-region": "${data.aws_region.current.name}",
            "awslogs-stream-prefix": "replicator",
        }
        liveness = of["liveness"]
        health = {
            "command": of["asked"],
            "interval": liveness.interval_s,
            "timeout": liveness.timeout_s,
            "retries": liveness.retries,
            "startPeriod": liveness.start_s,
        }
        container = {
            "name": "replicator",
            "image": self.text(of["image"]),
            "command": [self.text(word) for word in of["command"]],
            "environment": [
                {"name": name, "value": self.text(value)}
                for name, value in of["environment"].items()
            ],
            "essential": True,
            "readonlyRootFilesystem": True,
            "stopTimeout": 60,
            "healthCheck": health,
            "logConfiguration": {"logDriver": "awslogs", "options": logs},
        }
        if of["secrets"]:
            container["secrets"] = [
                {"name": name, "valueFrom": self.text(place)}
                for name, place in of["secrets"].items()
            ]
        return {
            "family": of["name"],
            "requires_compatibilities": ["FARGATE"],
            "network_mode": "awsvpc",
            "cpu": of["cpu"],
            "memory": of["memory"],
            "runtime_platform": {
                "cpu_architecture": "ARM64",
                "operating_system_family": "LINUX",
            },
            "task_role_arn": "${aws_iam_role.role.arn}",
            "execution_role_arn": "${var.execution_role_arn}",
            "container_definitions": json.dumps([container]),
        }

    def _service(self, of: Mapping[str, Any]) -> Document:
        return {
            "name": of["name"],
            "cluster": "${var.cluster_arn}",
            "task_definition": "${aws_ecs_task_definition.task.arn}",
            "launch_type": "FARGATE",
            "desired_count": 1,
            "deployment_minimum_healthy_percent": 0,
            "deployment_maximum_percent": 100,
            "deployment_circuit_breaker": {"enable": True, "rollback": True},
            "network_configuration": {
                "assign_public_ip": False,
                "subnets": "${var.subnets}",
                "security_groups": "${var.security_groups}",
            },
        }

    def _role(self, of: Mapping[str, Any]) -> Document:
        named = {"name": of["name"], **({} if of["path"] == "/" else {"path": of["path"]})}
        if of["trusted"]:
            # A list inside a document that is a text: Terraform has to encode it.
            statements = ", ".join(
                '{Effect = "Allow", Action = "sts:AssumeRole", '
                f"Principal = {{AWS = {self.text(who)[2:-1]}}}}}"
                for who in of["trusted"]
            )
            trusted = f'jsonencode({{Version = "2012-10-17", Statement = [{statements}]}})'
            return {**named, "assume_role_policy": f"${{{trusted}}}"}
        principal = {"Service": of["service"]}
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
        document = {"Version": "2012-10-17", "Statement": [trust]}
        return {**named, "assume_role_policy": json.dumps(document)}

    def _dashboard(self, of: Mapping[str, Any]) -> Document:
        return {"dashboard_name": of["name"], "dashboard_body": json.dumps(of["body"])}

    def text(self, value: str) -> str:
        """A text with its tokens rendered."""
        return _TOKEN.sub(lambda match: self._reference(match.group(1)), value)

    def _reference(self, token: str) -> str:
        kind, _, name = token.partition(".")
        match kind:
            case "param":
                inner = f"var.{snake(name)}"
            case "arn":
                inner = f"{self._kinds[name]}.{snake(name)}.arn"
            case "stream" if name in self._stack.created:
                inner = f"aws_dynamodb_table.{snake('Table' + logical(name))}.stream_arn"
            case "stream":
                inner = f"var.{snake('StreamArn' + logical(name))}"
            case "account":
                inner = "data.aws_caller_identity.current.account_id"
            case _:
                inner = "data.aws_partition.current.partition"
        return f"${{{inner}}}"
