"""Tables with one source: its replicator may die at any time, and never writes to the source."""

from __future__ import annotations

from collections import Counter
from random import Random

from support.black_box import REGIONS, Replicator, World
from support.black_box_tables import Table, Wire, key_text, text
from support.tables import unique_name

SOURCE, TARGET = REGIONS[:2]
VIEW_TYPES = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
KEYS = 8
ROUNDS = 3
WRITES_PER_ROUND = 60


class Application:
    """The one application that writes to a table, and what it knows the table must hold."""

    def __init__(self, world: World, table: Table, rng: Random) -> None:
        self.table = table
        self.items: dict[str, Wire] = {}
        self.events: Counter[str] = Counter()
        self._client = world.connection.client(SOURCE)
        self._rng = rng
        self._writes = 0

    def write(self) -> None:
        """Put, update or delete one item."""
        self._writes += 1
        key: Wire = {"id": {"S": f"key-{self._rng.randrange(KEYS)}"}}
        place = key_text(self.table, key)
        value = {"N": str(self._writes)}
        standing = self.items.get(place)
        match self._rng.choice(("put", "update", "delete")):
            case "put":
                self.items[place] = {**key, "put": value}
                self._client.put_item(TableName=self.table.name, Item=self.items[place])
            case "update":
                self.items[place] = {**(standing or key), "updated": value}
                self._client.update_item(
                    TableName=self.table.name,
                    Key=key,
                    UpdateExpression="SET updated = :v",
                    ExpressionAttributeValues={":v": value},
                )
            case _:
                self._client.delete_item(TableName=self.table.name, Key=key)
                self.items.pop(place, None)
                self.events["REMOVE"] += standing is not None
                return
        self.events["INSERT" if standing is None else "MODIFY"] += 1


def write_through_a_death(replicator: Replicator, applications: list[Application]) -> None:
    """Write while the replicator runs, while it is dead, and while it starts again."""
    for number in range(WRITES_PER_ROUND):
        for application in applications:
            application.write()
        if number == WRITES_PER_ROUND // 3:
            replicator.kill()
        if number == 2 * WRITES_PER_ROUND // 3:
            replicator.start()
    replicator.ready()


def test_the_source_stays_untouched_to_the_byte(world: World, rng: Random) -> None:
    """All four view types, a renamed target, SIGKILL in between: the target is equal, and the
    source holds what its application wrote, with no record in its stream but the application's."""
    applications = []
    for view_type in VIEW_TYPES:
        name = unique_name(view_type.lower().replace("_", "-"))
        table = Table(name, source=SOURCE, targets=(TARGET,), names={TARGET: f"{name}-copy"})
        world.add(table, view_type=view_type)
        applications.append(Application(world, table, Random(rng.random())))
    (replicator,) = world.start(SOURCE)
    for _ in range(ROUNDS):
        write_through_a_death(replicator, applications)
    world.settle()
    world.assert_equal()
    for application in applications:
        assert_untouched(world, application)


def assert_untouched(world: World, application: Application) -> None:
    """Assert that the source and its stream are the application's, and the target not empty."""
    table, connection = application.table, world.connection
    scanned = {key_text(table, item): item for item in connection.scan(table, SOURCE)}
    assert scanned == application.items
    assert connection.contents(table, TARGET) == {
        key: text(item) for key, item in application.items.items()
    }
    events = Counter(record["eventName"] for record in connection.stream(table, SOURCE).records())
    assert events == +application.events
