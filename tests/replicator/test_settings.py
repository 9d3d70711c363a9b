"""The configuration: what is accepted, and one clear line for each thing that is not."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from replicator.configuration import SECTIONS, load
from replicator.endpoints import checked_endpoint, is_loopback
from replicator.errors import ConfigurationError
from replicator.records import Mode, TtlDeletes
from replicator.settings import RegionSettings, Settings, TableSettings
from replicator.starter import starter

REGIONS = "[regions.us-east-1]\n[regions.eu-west-1]\n"
ORDERS = '[tables.orders]\nregions = ["us-east-1", "eu-west-1"]\n'
SOUND = REGIONS + ORDERS
EMPTY: tuple[object, ...] = (None, (), {}, frozenset())


class Directory:
    """Reads configurations as if they stood in `replicator.toml`."""

    def __init__(self, path: Path) -> None:
        self._file = path / "replicator.toml"

    def load(self, text: str, environment: Mapping[str, str] | None = None) -> Settings:
        """Load a text."""
        self._file.write_text(text)
        return load(self._file, environment or {})

    def complaints(self, text: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """Load a text that is not sound; the lines, the file by its name only."""
        with pytest.raises(ConfigurationError) as raised:
            self.load(text, environment)
        return str(raised.value).replace(f"{self._file.parent}/", "").splitlines()


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    """Give an empty directory."""
    return Directory(tmp_path)


def test_everything_else_has_a_default(directory: Directory) -> None:
    """Regions and a table are enough; an entry's AWS region is its name."""
    settings = directory.load(SOUND)
    orders = settings.tables["orders"]
    assert settings.regions["eu-west-1"].aws_region == "eu-west-1"
    assert (orders.mode, orders.marker) == (Mode.MULTI_WRITER, "_replicator")
    assert orders.ttl_deletes is TtlDeletes.REPLICATE
    assert (settings.control_table, settings.tombstone_days) == ("replicator-control", 7)
    assert (settings.future_bound_s, settings.http.url) == (60, "http://127.0.0.1:8080")
    assert (settings.writer.concurrency, settings.writer.unsettled_records_max) == (256, 10_000)


def test_one_source_may_be_read_for_several_tables(directory: Directory) -> None:
    """It is never written to: copies of several kinds, also of what other entries replicate."""
    one_way = 'source = "us-east-1"\ntargets = ["eu-west-1"]\nnames = { us-east-1 = "orders" }\n'
    for first in ("", ORDERS):
        text = REGIONS + first + "".join(f"[tables.{name}]\n{one_way}" for name in ("live", "dead"))
        settings = directory.load(text)
        assert settings.table_name("live", "us-east-1") == settings.table_name("dead", "us-east-1")


def test_where_every_region_writes_every_region_is_read(directory: Directory) -> None:
    """In a table with `regions`, each is a source and has all others as targets."""
    orders = directory.load(SOUND).tables["orders"]
    assert orders.sources == ("us-east-1", "eu-west-1")
    assert orders.targets_of("eu-west-1") == ("us-east-1",)


def test_one_way_reads_the_source_only(directory: Directory) -> None:
    """In a table with a `source`, only that region is read."""
    settings = directory.load(
        REGIONS
        + '[tables.ledger]\nsource = "us-east-1"\ntargets = ["eu-west-1"]\n'
        + 'names = { eu-west-1 = "ledger-copy" }\n'
    )
    ledger = settings.tables["ledger"]
    assert (ledger.mode, ledger.sources) == (Mode.ONE_WAY, ("us-east-1",))
    assert ledger.targets_of("us-east-1") == ("eu-west-1",)
    assert settings.table_name("ledger", "us-east-1") == "ledger"
    assert settings.table_name("ledger", "eu-west-1") == "ledger-copy"


def test_settings_are_frozen(directory: Directory) -> None:
    """A setting that was read cannot be changed."""
    settings = directory.load(SOUND)
    with pytest.raises(ValueError, match="frozen"):
        settings.http.port = 1


@pytest.mark.parametrize("source", [None, "eu-west-1"])
def test_the_starter_is_sound(directory: Directory, source: str | None) -> None:
    """What `init` writes can be read, whichever names it is given."""
    regions = ["us-east-1", "eu-west-1", "ap-south-1"]
    settings = directory.load(starter(regions=regions, table="my.table", source=source))
    assert set(settings.tables["my.table"].members) == set(regions)


def test_every_commented_key_of_the_starter_works(directory: Directory) -> None:
    """What the starter shows as a comment is accepted once the comment is taken off."""
    text = starter(regions=["us-east-1", "eu-west-1"], table="orders", source="us-east-1")
    commented = ["control_table", "future_bound_s", "tombstone_days", "names", "ttl_deletes"]
    commented += ["marker", "[http]", "host", "port", "[reader]", "poll_idle_s"]
    commented += ["describe_interval_s", "[writer]", "concurrency", "unsettled_records_max"]
    commented += ["allowed_endpoints", "write_rate", "unsettled_bytes_max"]
    commented += ["[mending]", "enabled", "after_s", "read_units_per_s", "write_units_per_s"]
    commented += ["[heartbeat]", "place", "interval_s", "[conflicts]", "images", "keys"]
    commented += ["[telemetry]", "otlp_endpoint", "otlp_interval_s", "lagging_after_s"]
    commented += ["emf =", "emf_interval_s", "where", "without", "rename", "[client]", "plane"]
    for key in commented:
        assert f"\n# {key}" in text
        text = text.replace(f"\n# {key}", f"\n{key}")
    assert directory.load(text).table_name("orders", "eu-west-1") == "orders-copy"


def test_the_starter_shows_every_key_with_its_default() -> None:
    """Where there is a default; else an example. Nothing that can be set is left out."""
    text = starter(regions=["us-east-1", "eu-west-1"], table="orders", source=None)
    shown = tomllib.loads(re.sub(r"(?m)^# (?=\[?[a-z_]+( =|\]))", "", text))
    document = {key: shown.pop(key, {}) for key in Settings.model_fields}
    assert not shown
    sections: list[tuple[type[BaseModel], dict[str, Any]]] = [(Settings, document)]
    sections += [(RegionSettings, document["regions"]["us-east-1"])]
    sections += [(TableSettings, document["tables"]["orders"])]
    sections += [(SECTIONS[key], document[key]) for key in SECTIONS]
    for model, entries in sections:
        assert set(entries) == set(model.model_fields), model
        for key, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if not (field.is_required() or isinstance(default, BaseModel) or default in EMPTY):
                assert entries[key] == default, f"{model.__name__}.{key}"


def test_the_environment_stands_above_the_file(directory: Directory) -> None:
    """A variable names a key by its path, a name within it with `_` for each other sign."""
    settings = directory.load(
        SOUND + "[http]\nport = 1234\n",
        {
            "REPLICATOR_HTTP__PORT": "9090",
            "REPLICATOR_CONTROL_TABLE": "state",
            "REPLICATOR_REGIONS__US_EAST_1__ENDPOINT_URL": "http://127.0.0.1:4566",
            "replicator_regions__eu-west-1__profile": "other",
            "REPLICATOR_TABLES__ORDERS__NAMES__EU_WEST_1": "orders-copy",
            "HTTP__PORT": "1",
        },
    )
    assert (settings.http.port, settings.control_table) == (9090, "state")
    assert settings.regions["us-east-1"].endpoint_url == "http://127.0.0.1:4566"
    assert settings.regions["eu-west-1"].profile == "other"
    assert settings.table_name("orders", "eu-west-1") == "orders-copy"


def test_the_environment_gives_sections_as_json(directory: Directory) -> None:
    """A list or a whole section is JSON, and then needs no entry in the file."""
    settings = directory.load(
        "",
        {
            "REPLICATOR_REGIONS": '{"us-east-1": {}, "eu-west-1": {}}',
            "REPLICATOR_TABLES": '{"orders": {"regions": ["us-east-1", "eu-west-1"]}}',
        },
    )
    assert settings.tables["orders"].members == ("us-east-1", "eu-west-1")


@pytest.mark.parametrize("text", ["{abcdefghijklmnopq", '["abcdefghijklmn"]', "[abcdefghijklmnop"])
def test_a_text_in_the_environment_is_taken_as_it_is(directory: Directory, text: str) -> None:
    """A token that chance began with a brace is no JSON, nor are the brackets of an address."""
    environment = {"REPLICATOR_HTTP__TOKEN": text, "REPLICATOR_HTTP__HOST": "[::1]"}
    http = directory.load(SOUND, environment).http
    assert (http.secret, http.host) == (text, "[::1]")


def test_what_takes_no_text_is_json_in_the_environment(directory: Directory) -> None:
    """Lists and sections within sections, also where they may be left out."""
    settings = directory.load(
        SOUND,
        {
            "REPLICATOR_HTTP": '{"names": ["here"]}',
            "REPLICATOR_ALLOWED_ENDPOINTS": '["dynamodb.internal"]',
            "REPLICATOR_TABLES__ORDERS__REGIONS": ' ["eu-west-1", "us-east-1"]',
            "REPLICATOR_TABLES__ORDERS__NAMES": '{"eu-west-1": "copy"}',
            "REPLICATOR_REGIONS__EU_WEST_1": '{"profile": "{odd}"}',
        },
    )
    orders = settings.tables["orders"]
    assert (settings.http.names, settings.allowed_endpoints) == (("here",), ("dynamodb.internal",))
    assert (orders.members, orders.names) == (("eu-west-1", "us-east-1"), {"eu-west-1": "copy"})
    assert settings.regions["eu-west-1"].profile == "{odd}"


def test_variables_of_others_are_left_alone(directory: Directory) -> None:
    """Kubernetes sets such variables for a service called replicator."""
    others = {"REPLICATOR_PORT": "tcp://10.0.0.1:80", "REPLICATOR_SERVICE_HOST": "10.0.0.1"}
    assert directory.load(SOUND, others).http.port == 8080


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("HTTP__PRT", "1", 'http.prt: unknown key; did you mean "port"?'),
        ("CONTROL_TABEL", "x", 'names no key; did you mean "control_table"?'),
        ("HTPP__PORT", "1", 'names no key; did you mean "http"?'),
        ("HTTP__PORT", "many", "http.port: should be a valid integer, not 'many'"),
        ("REGIONS", "{", "is not JSON: Expecting property name enclosed in double quotes"),
        ("TABLES__ORDERS__REGIONS", "[" * 100_000, "is not JSON: nested too deeply"),
        ("TABLES__ORDERS__REGIONS", f"[{'9' * 5_000}]", "is not JSON: Exceeds the limit"),
        ("HTTP__PORT", "[1", "is not JSON: "),
        (
            "TABLES__ORDERS__REGIONS",
            "us-east-1,eu-west-1",
            (
                "tables.orders.regions: should be a list, not 'us-east-1,eu-west-1'; "
                'write it like ["a", "b"], which is JSON'
            ),
        ),
        (
            "TABLES__ORDERS__RENAME",
            "a=b",
            (
                "tables.orders.rename: should be a section with keys, not 'a=b'; "
                'write it like {"key": "value"}, which is JSON'
            ),
        ),
        (
            "REGIONS__EU_WEST_2__PROFILE",
            "x",
            'names no entry of the file; add it to the file; did you mean "eu-west-1"?',
        ),
    ],
)
def test_a_wrong_variable_is_named(
    directory: Directory, name: str, value: str, complaint: str
) -> None:
    """What the environment got wrong is not blamed on the file."""
    (line,) = directory.complaints(SOUND, {f"REPLICATOR_{name}": value})
    assert line.startswith(f"REPLICATOR_{name}: {complaint}")


def test_a_variable_that_fits_two_entries_is_refused(directory: Directory) -> None:
    """Which of two names was meant is never guessed."""
    regions = '[regions."a.b"]\naws_region = "us-east-1"\n[regions.a_b]\naws_region = "eu-west-1"\n'
    text = regions + '[tables.orders]\nregions = ["a.b", "a_b"]\n'
    (line,) = directory.complaints(text, {"REPLICATOR_REGIONS__A_B__PROFILE": "x"})
    assert line == (
        'REPLICATOR_REGIONS__A_B__PROFILE: fits "a.b" and "a_b"; set it in the file instead'
    )


WRONG = {
    "unknown region": (
        REGIONS + '[tables.orders]\nregions = ["us-east-1", "eu-west-2"]\n',
        (
            'tables.orders.regions: "eu-west-2" is no region; add [regions.eu-west-2]; '
            'did you mean "eu-west-1"?'
        ),
    ),
    "unknown key": (
        SOUND + 'markr = "m"\n',
        'tables.orders.markr: unknown key; did you mean "marker"?',
    ),
    "unknown section": (SOUND + "[htp]\n", 'htp: unknown key; did you mean "http"?'),
    "not yet there": (
        SOUND + "priority = 5\n",
        (
            "tables.orders.priority: unknown key; known: marker, names, regions, rename, source, "
            "targets, ttl_deletes, where, without, write_rate"
        ),
    ),
    "key that pydantic would take": (
        '_env_file = "x"\n' + SOUND,
        (
            "_env_file: unknown key; known: allowed_endpoints, client, conflicts, control_table, "
            "future_bound_s, heartbeat, http, mending, reader, regions, tables, telemetry, "
            "tombstone_days, writer"
        ),
    ),
    "one region": (
        REGIONS + '[tables.orders]\nregions = ["us-east-1"]\n',
        (
            "tables.orders.regions: has fewer than two regions; nothing would be replicated; "
            "add another"
        ),
    ),
    "source among targets": (
        REGIONS + '[tables.orders]\nsource = "us-east-1"\ntargets = ["us-east-1", "eu-west-1"]\n',
        'tables.orders.targets: "us-east-1" is the source; remove it from the targets',
    ),
    "listed twice": (
        REGIONS + '[tables.orders]\nregions = ["us-east-1", "eu-west-1", "eu-west-1"]\n',
        'tables.orders.regions: "eu-west-1" is listed more than once; list it once',
    ),
    "both forms": (
        SOUND + 'source = "us-east-1"\n',
        (
            "tables.orders: has regions as well as source or targets; drop regions unless every "
            "region writes"
        ),
    ),
    "neither form": (
        REGIONS + "[tables.orders]\n",
        (
            'tables.orders: names no regions; add regions = ["…", "…"], or source = "…" and '
            'targets = ["…"]'
        ),
    ),
    "no target": (
        REGIONS + '[tables.orders]\nsource = "us-east-1"\n',
        'tables.orders: has a source but no targets; add targets = ["…"]',
    ),
    "no source": (
        REGIONS + '[tables.orders]\ntargets = ["us-east-1"]\n',
        'tables.orders: has targets but no source; add source = "…"',
    ),
    "name for another region": (
        SOUND + 'names = { us-west-1 = "other" }\n',
        'tables.orders.names: "us-west-1" is no region of this table; did you mean "us-east-1"?',
    ),
    "name that no table can have": (
        SOUND + 'names = { us-east-1 = "a b" }\n',
        (
            "tables.orders.names.us-east-1: 'a b' is no table's name; use 3 to 255 letters, "
            "digits, '.', '_', '-'"
        ),
    ),
    "wrong choice": (
        SOUND + 'ttl_deletes = "drop"\n',
        "tables.orders.ttl_deletes: should be 'replicate' or 'ignore', not 'drop'",
    ),
    "wrong type": (
        SOUND + "[http]\nport = []\n",
        "http.port: should be a valid integer, not []",
    ),
    "a text for a list": (
        SOUND + 'without = "notes"\n',
        """tables.orders.without: should be a list, not 'notes'; write it like ["a", "b"]""",
    ),
    "a number for a list": (
        "allowed_endpoints = 1\n" + SOUND,
        """allowed_endpoints: should be a list, not 1; write it like ["a", "b"]""",
    ),
    "empty marker": (
        SOUND + 'marker = ""\n',
        "tables.orders.marker: an attribute's name has 1 to 255 bytes",
    ),
    "short retention": (
        "tombstone_days = 0.5\n" + SOUND,
        "tombstone_days: should be greater than or equal to 1, not 0.5",
    ),
    "open to others": (
        SOUND + '[http]\nhost = "0.0.0.0"\n',
        (
            'http.host: "0.0.0.0" is open to others; set http.token (or REPLICATOR_HTTP__TOKEN), '
            "or use 127.0.0.1"
        ),
    ),
    "a token that can be guessed": (
        SOUND + '[http]\ntoken = "open-sesame"\n',
        "http.token: a token has 16 to 512 characters",
    ),
    "a token that no header can carry": (
        SOUND + '[http]\ntoken = "open sesame open sesame"\n',
        "http.token: a token has ASCII letters, digits and signs only",
    ),
    "not an AWS region": (
        '[regions.main]\n[regions.us-east-1]\n[tables.orders]\nregions = ["main", "us-east-1"]\n',
        "regions.main.aws_region: 'main' is no AWS region; set it like aws_region = \"us-east-1\"",
    ),
    "name with a separator": (
        SOUND + '[regions."a#b"]\naws_region = "us-east-2"\n',
        "regions.\"a#b\": 'a#b' is no region's name; use up to 64 letters, digits, '.', '_', '-'",
    ),
    "two names for one place": (
        SOUND + '[regions.again]\naws_region = "us-east-1"\n',
        (
            "regions.again: is the same endpoint, AWS region, profile and role as region "
            '"us-east-1", so both are one; change or remove this entry'
        ),
    ),
    "one table in two entries": (
        SOUND + '[tables.copy]\nsource = "us-east-1"\ntargets = ["eu-west-1"]\n'
        'names = { eu-west-1 = "orders" }\n',
        'tables.copy: "orders" in eu-west-1 belongs to table "orders"; remove one',
    ),
    "a ring of one-way tables": (
        REGIONS
        + '[tables.there]\nsource = "us-east-1"\ntargets = ["eu-west-1"]\n'
        + '[tables.back]\nsource = "eu-west-1"\ntargets = ["us-east-1"]\n'
        + 'names = { eu-west-1 = "there", us-east-1 = "there" }\n',
        'tables.back: "there" in eu-west-1 belongs to table "there"; remove one',
    ),
    "the control table": (
        'control_table = "orders"\n' + SOUND.replace(', "eu-west-1"', ', "eu-west-1"'),
        'tables.orders: "orders" in us-east-1 is the control table; rename one of the two',
    ),
    "wrong role": (
        SOUND.replace("[regions.eu-west-1]", '[regions.eu-west-1]\nrole_arn = "admin"'),
        (
            "regions.eu-west-1.role_arn: 'admin' is no role; write it like "
            '"arn:aws:iam::123456789012:role/name"'
        ),
    ),
    "not a section": ("regions = 3\n" + ORDERS, "regions: should be a section with keys, not 3"),
    "no table": (REGIONS + "[tables]\n", "tables: no table is named; add [tables.NAME]"),
}


@pytest.mark.parametrize(("text", "complaint"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_is_one_line(directory: Directory, text: str, complaint: str) -> None:
    """A line names the file, the key and the remedy."""
    assert f"replicator.toml: {complaint}" in directory.complaints(text)
    assert all(line.startswith("replicator.toml: ") for line in directory.complaints(text))


def test_several_errors_are_several_lines(directory: Directory) -> None:
    """Whoever mends a file need not run once per error."""
    text = SOUND + 'marker = ""\nttl = 1\n[http]\nport = 0\n[reader]\npoll_idle_s = nan\n'
    assert len(directory.complaints(text)) == 4


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = [", "replicator.toml: is not TOML: Invalid value (at end of document)"),
        ("a = 1\na = 2", "replicator.toml: is not TOML: Cannot overwrite a value"),
        ("a = " + "[" * 5_000 + "]" * 5_000, "replicator.toml: is not TOML: nested too deeply"),
        ("a = " + "9" * 5_000, "replicator.toml: is not TOML: a number has too many digits"),
    ],
)
def test_a_malformed_file_says_where(directory: Directory, text: str, complaint: str) -> None:
    """What cannot be parsed is one line with its place in the file."""
    (line,) = directory.complaints(text)
    assert line.startswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "tombstone_days." + "a." * 5_000 + "a = 1\n" + SOUND,
        f"{SOUND}[http]\nport = 0x{'f' * 5_000}",
    ],
    ids=["deep", "long"],
)
def test_a_value_that_cannot_be_shown_is_one_line(directory: Directory, text: str) -> None:
    """It can be read, but not written out again."""
    (line,) = directory.complaints(text)
    assert line.endswith(", not what is too large to be shown")


def test_a_mark_before_the_text_is_no_part_of_it(tmp_path: Path) -> None:
    """Some editors put one before UTF-8."""
    file = tmp_path / "replicator.toml"
    file.write_text(SOUND, encoding="utf-8-sig")
    assert set(load(file, {}).tables) == {"orders"}


def test_a_missing_file_names_the_way_to_one(tmp_path: Path) -> None:
    """Without a file the line says how to come by one."""
    with pytest.raises(ConfigurationError, match="not found; write one with `replicator init`"):
        load(tmp_path / "replicator.toml", {})
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path, {})


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    """TOML is UTF-8."""
    file = tmp_path / "replicator.toml"
    file.write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigurationError, match="save it as UTF-8"):
        load(file, {})


@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-west-1.amazonaws.com",
        "https://vpce-1.dynamodb.example:8443/",
        "http://127.0.0.1:4566",
        "http://localhost:8000",
        "http://[::1]:8000",
    ],
)
def test_an_endpoint_may_be_https_or_loopback(url: str) -> None:
    """Data goes encrypted, or does not leave the machine."""
    assert checked_endpoint(url) == url


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://dynamodb.example.com", "plain http is for loopback only"),
        ("http://10.0.0.7:8000", "plain http is for loopback only"),
        ("http://0.0.0.0:8000", "plain http is for loopback only"),
        ("http://localhost.evil.example", "plain http is for loopback only"),
        ("https://169.254.169.254", "link-local"),
        ("https://2852039166", "link-local"),
        ("https://0xa9fea9fe", "link-local"),
        ("https://169.16689662", "link-local"),
        ("https://[fe80::1%25eth0]", "link-local"),
        ("https://[::ffff:169.254.169.254]", "link-local"),
        ("https://[fd00:ec2::254]", "link-local"),
        ("ftp://127.0.0.1", "is no endpoint"),
        ("ftp://user:secret@127.0.0.1", "takes no user"),
        ("127.0.0.1:8000", "is no endpoint"),
        ("https://", "is no endpoint"),
        ("https://[::1", "is no endpoint"),
        ("https://host:99999", "is no endpoint"),
        ("https://user:secret@host", "takes no user"),
        ("https://host/path", "leave out the rest"),
        ("https://host?x=1", "leave out the rest"),
    ],
)
def test_an_endpoint_that_data_must_not_go_to_is_refused(url: str, complaint: str) -> None:
    """Neither plain http over a network, nor an address that serves credentials."""
    with pytest.raises(ValueError, match=complaint):
        checked_endpoint(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-west-1.amazonaws.com",
        "https://vpce-1-a.dynamodb.eu-west-1.vpce.amazonaws.com",
        "https://dynamodb.cn-north-1.amazonaws.com.cn",
        "https://dynamodb.eu-west-1.api.aws",
        "https://dynamodb.eusc-de-east-1.amazonaws.eu",
        "https://127.0.0.1:8443",
        "http://localhost:8000",
    ],
)
def test_this_machine_and_aws_need_no_leave(directory: Directory, url: str) -> None:
    """What is meant most often is not asked about."""
    text = SOUND.replace("[regions.eu-west-1]", f'[regions.eu-west-1]\nendpoint_url = "{url}"')
    assert directory.load(text).regions["eu-west-1"].endpoint_url == url


@pytest.mark.parametrize(
    "host", ["dynamodb.internal", "amazonaws.com.evil.example", "evilamazonaws.com", "10.0.0.7"]
)
def test_another_host_has_to_be_named(directory: Directory, host: str) -> None:
    """A slip of the pen, or of an environment variable, sends data nowhere."""
    place = f'[regions.eu-west-1]\nendpoint_url = "https://{host}:8443"'
    text = SOUND.replace("[regions.eu-west-1]", place)
    (line,) = directory.complaints(text)
    assert f'regions.eu-west-1.endpoint_url: "{host}" is neither AWS nor this machine' in line
    allowed = f'allowed_endpoints = ["{host}"]'
    assert allowed in line
    assert directory.load(f"{allowed}\n{text}").allowed_endpoints == (host,)


def test_a_link_local_host_is_refused_even_where_it_is_named(directory: Directory) -> None:
    """There hosts keep credentials; nothing else is served."""
    place = '[regions.eu-west-1]\nendpoint_url = "https://169.254.169.254"'
    text = 'allowed_endpoints = ["169.254.169.254"]\n' + SOUND
    (line,) = directory.complaints(text.replace("[regions.eu-west-1]", place))
    assert "link-local" in line


def test_loopback_is_judged_by_spelling_only() -> None:
    """A name that might resolve to loopback is not loopback."""
    assert all(is_loopback(host) for host in ("localhost", "127.0.0.1", "127.9.9.9", "::1"))
    assert not any(is_loopback(host) for host in ("", "127.0.0.1.example", "::", "localhost."))


def test_a_token_is_not_told(directory: Directory) -> None:
    """Neither a complaint about it nor the settings themselves show what it is."""
    secret = "4711" * 4
    for text in (f"token = {secret}", f'token = "{secret[:8]}"', f'token = ["{secret}"]'):
        complaints = directory.complaints(SOUND + f"[http]\n{text}\n")
        assert complaints
        assert secret[:8] not in "".join(complaints)
    settings = directory.load(SOUND + f'[http]\ntoken = "{secret}"\n')
    assert settings.http.secret == secret
    assert secret not in repr(settings)


SECRETS = [
    (section, key)
    for section, model in SECTIONS.items()
    for key, field in model.model_fields.items()
    if "SecretStr" in str(field.annotation)
]


@pytest.mark.parametrize(("section", "key"), SECRETS)
@pytest.mark.parametrize("secret", ['"hunter2"', "[{hunter2 = 1}]", '["hunter2"]', "47110815"])
def test_no_complaint_quotes_a_secret(
    directory: Directory, section: str, key: str, secret: str
) -> None:
    """Whichever key is one by its type, wherever it is stated and as whatever."""
    named = directory.complaints(SOUND + f"[{section}]\n{key} = {secret}\n")
    named += directory.complaints(f"{section} = [{secret}]\n" + SOUND)
    named += directory.complaints(SOUND, {f"REPLICATOR_{section}__{key}": "hunter2"})
    named += directory.complaints(SOUND, {f"REPLICATOR_{section}": "hunter2"})
    assert len(named) == 4
    assert not [line for line in named if "hunter2" in line or "47110815" in line]


def test_what_is_secret_is_known() -> None:
    """The test above looks at something."""
    assert {("http", "token"), ("conflicts", "digest_key")} <= set(SECRETS)


def test_a_digest_key_that_can_be_guessed_is_told_readably(directory: Directory) -> None:
    """A length is one of characters."""
    (line,) = directory.complaints(SOUND + '[conflicts]\ndigest_key = "hunter2"\n')
    assert line.endswith(": conflicts.digest_key: a digest key has 16 to 512 characters")


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@host:99999",
        "https://user:hunter2@[host",
        "https://user:hunter2/x@host",
        "https://hunter2:x4318/@host",
        "user:hunter2@host:8000",
        "//user:hunter2@host",
    ],
)
def test_no_complaint_quotes_the_user_of_a_url(directory: Directory, url: str) -> None:
    """However wrong the rest of the URL is, and wherever it was put."""
    lines = directory.complaints(f'allowed_endpoints = ["{url}"]\n{SOUND}')
    for place in (f'endpoint_url = "{url}"', f'profile = ["{url}"]', f'aws_region = "{url}"'):
        text = SOUND.replace("[regions.eu-west-1]", f"[regions.eu-west-1]\n{place}")
        lines += directory.complaints(text)
    lines += directory.complaints(SOUND + f'[telemetry]\notlp_endpoint = "{url}"\n')
    assert len(lines) == 5
    assert sum("takes no user or password" in line for line in lines) == 2
    assert not [line for line in lines if "hunter2" in line or "user:" in line]


def test_an_open_page_has_a_token(directory: Directory) -> None:
    """With one, from the file or the environment, any address may be bound to."""
    text = SOUND + '[http]\nhost = "10.1.2.3"\n'
    environment = {"REPLICATOR_HTTP__TOKEN": "x" * 16}
    assert directory.load(text, environment).http.host == "10.1.2.3"
