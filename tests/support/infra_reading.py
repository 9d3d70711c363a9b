"""What a template and a module say, in one form: the same words for the same thing.

The form keeps what matters in operation (actions on ARNs, conditions, settings, alarms, tables)
and leaves out how each language spells it. It is read from the files, not from the generator.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from infra.names import snake

_PLAIN = {
    "AWS::Partition": "partition",
    "AWS::AccountId": "account",
    "AWS::Region": "region",
    "data.aws_partition.current.partition": "partition",
    "data.aws_caller_identity.current.account_id": "account",
    "data.aws_region.current.name": "region",
}
_LOG_GROUP = "arn:<partition>:logs:<region>:<account>:log-group:<logs>"


def template(path: Path) -> dict[str, Any]:
    """A CloudFormation template."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def module(path: Path) -> dict[str, Any]:
    """A Terraform module."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def from_template(document: dict[str, Any]) -> dict[str, Any]:
    """What a template says."""
    kept = {k: r for k, r in document["Resources"].items() if _is_kept(r)}
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for resource in document["Resources"].values():
        by_kind.setdefault(resource["Type"], []).append(_plain(resource["Properties"]))
    return {
        "parameters": sorted(snake(name) for name in document["Parameters"]),
        "kept": sorted(map(snake, kept)),
        "tables": sorted(map(_table_cfn, by_kind.get("AWS::DynamoDB::Table", [])), key=str),
        "roles": {
            role["RoleName"]: _statements(role["Policies"][0]["PolicyDocument"])
            for role in by_kind.get("AWS::IAM::Role", [])
        },
        "paths": {r["RoleName"]: r.get("Path", "/") for r in by_kind.get("AWS::IAM::Role", [])},
        "trust": {
            role["RoleName"]: _trust(role["AssumeRolePolicyDocument"])
            for role in by_kind.get("AWS::IAM::Role", [])
        },
        "mappings": sorted(
            map(_mapping_cfn, by_kind.get("AWS::Lambda::EventSourceMapping", [])), key=str
        ),
        "functions": [
            {
                "name": f["FunctionName"],
                "handler": f["Handler"],
                "runtime": f["Runtime"],
                "architectures": f["Architectures"],
                "memory": f["MemorySize"],
                "timeout": f["Timeout"],
                "environment": f["Environment"]["Variables"],
                "code": [f["Code"]["S3Bucket"], f["Code"]["S3Key"]],
            }
            for f in by_kind.get("AWS::Lambda::Function", [])
        ],
        "queues": [
            [
                q["QueueName"],
                q["VisibilityTimeout"],
                q["MessageRetentionPeriod"],
                q.get("SqsManagedSseEnabled"),
                q.get("KmsMasterKeyId"),
            ]
            for q in by_kind.get("AWS::SQS::Queue", [])
        ],
        "logs": [
            [g["LogGroupName"], g["RetentionInDays"], g.get("KmsKeyId")]
            for g in by_kind.get("AWS::Logs::LogGroup", [])
        ],
        "tasks": [
            {
                "cpu": t["Cpu"],
                "memory": t["Memory"],
                "image": c["Image"],
                "command": c["Command"],
                "environment": {v["Name"]: v["Value"] for v in c["Environment"]},
                "secrets": {v["Name"]: v["ValueFrom"] for v in c.get("Secrets", [])},
                "stop_s": c["StopTimeout"],
                "read_only": c["ReadonlyRootFilesystem"],
                "health": {snake(k): v for k, v in c["HealthCheck"].items()},
            }
            for t in by_kind.get("AWS::ECS::TaskDefinition", [])
            for c in t["ContainerDefinitions"]
        ],
        "services": [
            [s["ServiceName"], s["DesiredCount"], *_deployment_cfn(s["DeploymentConfiguration"])]
            for s in by_kind.get("AWS::ECS::Service", [])
        ],
        "alarms": {
            a["AlarmName"]: _alarm_cfn(a) for a in by_kind.get("AWS::CloudWatch::Alarm", [])
        },
        "dashboards": [
            json.loads(d["DashboardBody"]) for d in by_kind.get("AWS::CloudWatch::Dashboard", [])
        ],
    }


def from_module(document: dict[str, Any]) -> dict[str, Any]:
    """What a module says."""
    resources = {
        kind: {name: _plain(found) for name, found in named.items()}
        for kind, named in document["resource"].items()
    }

    def of(kind: str) -> list[dict[str, Any]]:
        return list(resources.get(kind, {}).values())

    policies = resources.get("aws_iam_role_policy", {})
    roles = resources.get("aws_iam_role", {})
    return {
        "parameters": sorted(document["variable"]),
        "kept": sorted(
            name
            for named in resources.values()
            for name, made in named.items()
            if made.get("lifecycle") == {"prevent_destroy": True}
        ),
        "tables": sorted(map(_table_tf, of("aws_dynamodb_table")), key=str),
        "roles": {
            role["name"]: _statements(json.loads(policies[name]["policy"]))
            for name, role in roles.items()
        },
        "paths": {role["name"]: role.get("path", "/") for role in roles.values()},
        "trust": {role["name"]: _trust_tf(role["assume_role_policy"]) for role in roles.values()},
        "mappings": sorted(map(_mapping_tf, of("aws_lambda_event_source_mapping")), key=str),
        "functions": [
            {
                "name": f["function_name"],
                "handler": f["handler"],
                "runtime": f["runtime"],
                "architectures": f["architectures"],
                "memory": f["memory_size"],
                "timeout": f["timeout"],
                "environment": f["environment"]["variables"],
                "code": [f["s3_bucket"], f["s3_key"]],
            }
            for f in of("aws_lambda_function")
        ],
        "queues": [
            [
                q["name"],
                q["visibility_timeout_seconds"],
                q["message_retention_seconds"],
                q.get("sqs_managed_sse_enabled"),
                q.get("kms_master_key_id"),
            ]
            for q in of("aws_sqs_queue")
        ],
        "logs": [
            [g["name"], g["retention_in_days"], g.get("kms_key_id")]
            for g in of("aws_cloudwatch_log_group")
        ],
        "tasks": [
            {
                "cpu": t["cpu"],
                "memory": t["memory"],
                "image": c["image"],
                "command": c["command"],
                "environment": {v["name"]: v["value"] for v in c["environment"]},
                "secrets": {v["name"]: v["valueFrom"] for v in c.get("secrets", [])},
                "stop_s": c["stopTimeout"],
                "read_only": c["readonlyRootFilesystem"],
                "health": {snake(k): v for k, v in c["healthCheck"].items()},
            }
            for t in of("aws_ecs_task_definition")
            for c in json.loads(t["container_definitions"])
        ],
        "services": [
            [
                s["name"],
                s["desired_count"],
                s["deployment_minimum_healthy_percent"],
                s["deployment_maximum_percent"],
                *s["deployment_circuit_breaker"].values(),
            ]
            for s in of("aws_ecs_service")
        ],
        "alarms": {a["alarm_name"]: _alarm_tf(a) for a in of("aws_cloudwatch_metric_alarm")},
        "dashboards": [json.loads(d["dashboard_body"]) for d in of("aws_cloudwatch_dashboard")],
    }


def _is_kept(resource: dict[str, Any]) -> bool:
    """When its stack goes, and when it is replaced."""
    policies = [resource.get(f"{when}Policy", "Delete") for when in ("Deletion", "UpdateReplace")]
    return policies in (["Retain", "Retain"], ["RetainExceptOnCreate", "Retain"])


def _plain(value: Any) -> Any:
    """References as `<what>`, whichever way they are written."""
    if isinstance(value, list):
        return [_plain(member) for member in value]
    if isinstance(value, str):
        return re.sub(r"\$\{([\w.:]+)\}", lambda found: _name(found.group(1)), value)
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return _name(value["Ref"])
    if set(value) == {"Fn::GetAtt"}:
        return _name(".".join(value["Fn::GetAtt"]))
    if set(value) == {"Fn::Sub"}:
        text = re.sub(r"\$\{([\w.:]+)\}", lambda found: _name(found.group(1)), value["Fn::Sub"])
        return text.replace(_LOG_GROUP, "<logs.arn>")
    return {name: _plain(member) for name, member in value.items()}


def _name(reference: str) -> str:
    if reference in _PLAIN:
        return f"<{_PLAIN[reference]}>"
    parts = reference.split(".")
    if parts[0] == "var" or parts[0].startswith("aws_"):
        parts = parts[1:]
    return "<" + ".".join(snake(part) for part in parts) + ">"


def _statements(document: dict[str, Any]) -> list[dict[str, Any]]:
    return list(document["Statement"])


def _trust(document: dict[str, Any]) -> str:
    said = [(s["Action"], *s["Principal"].items()) for s in document["Statement"]]
    return "; ".join(f"{action} by {kind} {who}" for action, (kind, who) in said)


def _trust_tf(text: str) -> str:
    if not text.startswith("${"):
        return _trust(json.loads(text))
    said = re.findall(r'Action = "([^"]+)", Principal = \{AWS = ([\w.]+)\}', text)
    return "; ".join(f"{action} by AWS {_name(who)}" for action, who in said)


def _table_cfn(table: dict[str, Any]) -> dict[str, Any]:
    kinds = {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]}
    return {
        "name": table["TableName"],
        "keys": [[key["AttributeName"], kinds[key["AttributeName"]]] for key in table["KeySchema"]],
        "billing": table["BillingMode"],
        "ttl": table.get("TimeToLiveSpecification", {}).get("AttributeName"),
        "stream": table.get("StreamSpecification", {}).get("StreamViewType"),
        "kms": table.get("SSESpecification", {}).get("KMSMasterKeyId"),
        "recovery": table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"],
        "protected": table["DeletionProtectionEnabled"],
    }


def _table_tf(table: dict[str, Any]) -> dict[str, Any]:
    kinds = {a["name"]: a["type"] for a in table["attribute"]}
    keys = [table[role] for role in ("hash_key", "range_key") if role in table]
    return {
        "name": table["name"],
        "keys": [[key, kinds[key]] for key in keys],
        "billing": table["billing_mode"],
        "ttl": table.get("ttl", {}).get("attribute_name"),
        "stream": table.get("stream_view_type"),
        "kms": table.get("server_side_encryption", {}).get("kms_key_arn"),
        "recovery": table["point_in_time_recovery"]["enabled"],
        "protected": table["deletion_protection_enabled"],
    }


def _mapping_cfn(mapping: dict[str, Any]) -> list[Any]:
    if "StartingPosition" not in mapping:  # of a queue
        return [
            mapping["EventSourceArn"],
            mapping["BatchSize"],
            mapping["FunctionResponseTypes"],
        ]
    return [
        mapping["EventSourceArn"],
        mapping["BatchSize"],
        mapping["MaximumBatchingWindowInSeconds"],
        mapping["ParallelizationFactor"],
        mapping["BisectBatchOnFunctionError"],
        mapping["MaximumRetryAttempts"],
        mapping["MaximumRecordAgeInSeconds"],
        mapping["FunctionResponseTypes"],
        mapping["StartingPosition"],
        mapping["DestinationConfig"]["OnFailure"]["Destination"],
    ]


def _mapping_tf(mapping: dict[str, Any]) -> list[Any]:
    if "starting_position" not in mapping:  # of a queue
        return [
            mapping["event_source_arn"],
            mapping["batch_size"],
            mapping["function_response_types"],
        ]
    return [
        mapping["event_source_arn"],
        mapping["batch_size"],
        mapping["maximum_batching_window_in_seconds"],
        mapping["parallelization_factor"],
        mapping["bisect_batch_on_function_error"],
        mapping["maximum_retry_attempts"],
        mapping["maximum_record_age_in_seconds"],
        mapping["function_response_types"],
        mapping["starting_position"],
        mapping["destination_config"]["on_failure"]["destination_arn"],
    ]


def _deployment_cfn(deployment: dict[str, Any]) -> list[Any]:
    breaker = deployment["DeploymentCircuitBreaker"]
    percents = [deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]]
    return [*percents, breaker["Enable"], breaker["Rollback"]]


def _alarm_cfn(alarm: dict[str, Any]) -> list[Any]:
    return [
        alarm["AlarmDescription"],
        _watched_cfn(alarm),
        alarm["EvaluationPeriods"],
        alarm["Threshold"],
        alarm["ComparisonOperator"],
        alarm["TreatMissingData"],
        alarm["AlarmActions"],
    ]


def _watched_cfn(alarm: dict[str, Any]) -> list[Any]:
    if "Metrics" not in alarm:
        return [*_metric_cfn(alarm), alarm["Statistic"], alarm["Period"]]
    return [
        [
            query["Id"],
            query["ReturnData"],
            query.get("Expression")
            or [
                *_metric_cfn(query["MetricStat"]["Metric"]),
                query["MetricStat"]["Stat"],
                query["MetricStat"]["Period"],
            ],
        ]
        for query in alarm["Metrics"]
    ]


def _metric_cfn(metric: dict[str, Any]) -> list[Any]:
    dimensions = {d["Name"]: d["Value"] for d in metric["Dimensions"]}
    return [metric["Namespace"], metric["MetricName"], dimensions]


def _alarm_tf(alarm: dict[str, Any]) -> list[Any]:
    return [
        alarm["alarm_description"],
        _watched_tf(alarm),
        alarm["evaluation_periods"],
        alarm["threshold"],
        alarm["comparison_operator"],
        alarm["treat_missing_data"],
        alarm["alarm_actions"],
    ]


def _watched_tf(alarm: dict[str, Any]) -> list[Any]:
    if "metric_query" not in alarm:
        return [*_metric_tf(alarm), alarm["statistic"], alarm["period"]]
    return [
        [
            query["id"],
            query["return_data"],
            query.get("expression")
            or [*_metric_tf(query["metric"]), query["metric"]["stat"], query["metric"]["period"]],
        ]
        for query in alarm["metric_query"]
    ]


def _metric_tf(metric: dict[str, Any]) -> list[Any]:
    return [metric["namespace"], metric["metric_name"], metric["dimensions"]]
