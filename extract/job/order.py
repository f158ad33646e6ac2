"""Carries what one `mgx extract` asks for to other processes: as plain values, which each of them can open."""

from dataclasses import dataclass

from mgx.extract.data.dataset import load_items, require_media
from mgx.extract.job.tasks import Task, learner_items, plan_tasks
from mgx.extract.perceptor import Opening, Perceptor, of_data, open_perceptor, opening_of
from mgx.shared.errors import BadRequest
from mgx.shared.home import Home
from mgx.shared.manifest import Manifest, find_manifest


@dataclass(frozen=True)
class Order:
    """A data set by its name or manifest, perceptors as they are asked for, `modalities` () for all of them."""

    dataset: str
    perceptors: tuple[str, ...]
    modalities: tuple[str, ...] = ()
    device: str = "cpu"
    precision: str = ""
    partial: bool = False


@dataclass(frozen=True)
class Opened:
    """An order's data set, perceptors and stores. Perceptors and their openings go by their own names."""

    manifest: Manifest
    perceptors: dict[str, Perceptor]
    openings: dict[str, Opening]
    tasks: list[Task]

    def wanted_of(self, perceptor: Perceptor) -> list[str]:
        """What a perceptor is asked to encode."""
        return list(dict.fromkeys(task.encoded_as for task in self.tasks if task.perceptor is perceptor))


def open_order(order: Order, home: Home) -> Opened:
    """Data set, perceptors and the stores that they make. Nothing is loaded or written."""
    asked = {name: open_perceptor(name, home, order.device, order.precision) for name in order.perceptors}
    manifest = find_manifest(order.dataset, home)
    for perceptor in asked.values():
        require_media(manifest, perceptor.name)
    items = learner_items(load_items(manifest, home, order.partial))
    asked = {name: of_data(perceptor, manifest, items) for name, perceptor in asked.items()}
    opened = {perceptor.name: perceptor for perceptor in asked.values()}
    if len(opened) < len(asked):
        raise BadRequest(f"--perceptor {', '.join(asked)}: two of them have one name, and so one store. Take one.")
    openings = {p.name: opening_of(p, name, home, order.precision, manifest, items) for name, p in asked.items()}
    tasks = [task for name, p in asked.items() for task in plan_tasks(manifest, items, p, order.modalities, name)]
    return Opened(manifest, opened, openings, tasks)
