"""Build the built-in data set `homeobjects`: household objects seen, measured, read and heard.

    python data_manifests/build_homeobjects.py --furniture sweethome3d-furniture_1.8-1_all.deb \\
        --out data_manifests/homeobjects.zip --sheet docs/homeobjects.png

The objects are the 3D models of Debian's package `sweethome3d-furniture`. `homeobjects_labels.csv`, reviewed
by hand, says which class, group and part each belongs to. Every labelled object gives two colour images, two
depth maps seen through the same pixels, a caption, and the caption spoken by `flite`: they pair exactly.

Needs `flite` 2.2, `dpkg-deb`, and from Python numpy, embreex, pillow and soundfile; nobody who only uses the
data needs these. The same inputs, package versions and kind of processor give the same bytes, with any number
of jobs. An interrupted build goes on where it stopped; after changing the renderer, delete the work folder.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import soundfile  # type: ignore[import-untyped]
from embreex.mesh_construction import TriangleMesh  # type: ignore[import-untyped]
from embreex.rtcore_scene import EmbreeScene  # type: ignore[import-untyped]
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FURNITURE_SHA256 = "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668"
HERE = Path(__file__).parent
LABELS = HERE / "homeobjects_labels.csv"
ATTRIBUTION = HERE / "homeobjects_attribution.txt"

CLASSES = (
    "bed", "cabinet", "chair", "door", "electrical outlet", "electronics", "kitchen appliance", "lamp",
    "person", "plant", "sink or toilet", "sofa", "table", "tableware", "vehicle", "window",
)  # fmt: skip
PARTS = {"align": 0.4, "learn": 0.3, "test": 0.3}
PARTS_SEED = "homeobjects parts 1"

SIDE = 224  # pixels
SAMPLES = 2  # colour rays per pixel along each axis
FIELD_OF_VIEW = np.radians(35)
ELEVATION = np.radians(20)
AZIMUTHS = (np.radians(30), np.radians(-45))  # from the object's front, to its left and right
FRAME_FILLED = 0.92  # of the half frame, by the outermost vertex
LAYERS = 12  # surfaces one ray may pass: leaves with cut-out edges and glass lie behind one another
TEXTURE_SIDE = 512  # pixels; sharper textures would only alias
BACKGROUND = np.array([1.0, 1.0, 1.0])

VOICES = ("slt", "rms", "awb", "kal16")
SAMPLE_RATE = 16_000  # Hz


# What the package holds


@dataclass(frozen=True)
class Model:
    """One catalogue entry; `size` is width, height, depth in metres, along x, y, z after `rotation`."""

    id: str
    name: str
    creator: str
    licence: str
    catalogue: Path
    obj: str
    size: tuple[float, float, float]
    rotation: tuple[float, ...]


def item_id(key: str) -> str:
    """A catalogue key such as `Blend Swap CC-0#L_shaped_sofa` as a name that is safe for files."""
    return re.sub(r"[^a-z0-9]+", "_", key.lower().replace("cc-", "cc")).strip("_")


def properties(data: bytes) -> dict[str, str]:
    """A Java properties file: latin-1 with \\u escapes, and lines continued by a backslash."""
    text = re.sub(r"\\\r?\n\s*", "", data.decode("latin-1"))
    found = {}
    for line in map(str.strip, text.splitlines()):
        if line and line[0] not in "#!":
            key, _, value = line.partition("=")
            found[key.strip()] = _unescape(value.strip())
    return found


def _unescape(value: str) -> str:
    value = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), value)
    return value.replace("\\", "")


def read_catalogue(path: Path) -> list[Model]:
    """All models of one `.sh3f` file."""
    with zipfile.ZipFile(path) as archive:
        entries = properties(archive.read("PluginFurnitureCatalog.properties"))
    licence = re.sub(r"\s+", " ", entries["license"])
    models = []
    for number in (key.removeprefix("id#") for key in entries if key.startswith("id#")):
        entry = {name: entries.get(f"{name}#{number}", "") for name in _FIELDS}
        models.append(_model(path, licence, entry))
    return models


_FIELDS = ("id", "name", "creator", "model", "width", "depth", "height", "modelRotation")


def _model(path: Path, licence: str, entry: dict[str, str]) -> Model:
    centimetres = float(entry["width"]), float(entry["height"]), float(entry["depth"])
    return Model(
        id=item_id(entry["id"]),
        name=entry["name"],
        creator=entry["creator"],
        licence=licence,
        catalogue=path,
        obj=entry["model"].lstrip("/"),
        size=(centimetres[0] / 100, centimetres[1] / 100, centimetres[2] / 100),
        rotation=tuple(map(float, (entry["modelRotation"] or "1 0 0 0 1 0 0 0 1").split())),
    )


def read_furniture(deb: Path, folder: Path) -> dict[str, Model]:
    """Check and unpack the Debian package into `folder`; its models by id."""
    digest = sha256(deb.read_bytes())
    if digest != FURNITURE_SHA256:
        raise SystemExit(f"{deb} has sha256 {digest}, expected {FURNITURE_SHA256}. Download version 1.8-1.")
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial_folder:
            unpacked = Path(partial_folder) / "furniture"
            subprocess.run(["dpkg-deb", "-x", str(deb), str(unpacked)], check=True)
            unpacked.rename(folder)
    models = [model for path in sorted(folder.rglob("*.sh3f")) for model in read_catalogue(path)]
    by_id = {model.id: model for model in models}
    if len(by_id) != len(models):
        raise SystemExit("Two catalogue keys give the same id: make item_id tell them apart.")
    return by_id


# The reviewed table


@dataclass(frozen=True)
class Label:
    """One row of the reviewed table; `label`, `group` and `part` are empty where a model fits no class."""

    id: str
    name: str
    label: str
    group: str
    part: str
    note: str


def read_labels() -> list[Label]:
    """The reviewed table, in its order."""
    with LABELS.open(newline="", encoding="utf-8") as file:
        return [Label(**row) for row in csv.DictReader(file)]


_NOT_TELLING = {
    "beige", "black", "blue", "brown", "clear", "gray", "green", "grey", "orange", "pink", "purple", "red",
    "white", "yellow", "big", "high", "large", "little", "long", "low", "medium", "mini", "short", "small",
    "tall", "single", "double", "triple", "quadruple", "two", "three", "four", "left", "right",
}  # fmt: skip


def plain_name(name: str) -> str:
    """A name without what makes no other thing of it: case, digits, punctuation, colour, size, number, side.

    >>> plain_name("Small lamp 2") == plain_name("little LAMP (white)")
    True
    """
    words = re.findall(r"[a-z]+", name.lower())
    return " ".join(word for word in words if word not in _NOT_TELLING) or name.lower()


def assign_parts(rows: Iterable[Label]) -> dict[str, str]:
    """The part of each group: in every class as near to 40/30/30 of its objects as whole groups permit.

    Groups come large first, so that small ones even out what large ones leave, and in hashed order among
    equals; each goes where the most objects are still wanted.
    """
    labelled = [row for row in rows if row.label]
    sizes = Counter((row.label, row.group) for row in labelled)
    totals = Counter(row.label for row in labelled)
    wanted = {(label, part): share * totals[label] for label in totals for part, share in PARTS.items()}

    def order(key: tuple[str, str]) -> tuple[int, str]:
        return -sizes[key], sha256(f"{PARTS_SEED} {key[1]}".encode())

    chosen = {}
    for label, group in sorted(sizes, key=order):
        part = max(PARTS, key=lambda part: wanted[label, part])
        wanted[label, part] -= sizes[label, group]
        chosen[group] = part
    return chosen


def check_labels(rows: list[Label], models: dict[str, Model]) -> None:
    """Stop unless the table covers the catalogue, knows its classes and lets no kind into two parts."""
    if sorted(row.id for row in rows) != sorted(models):
        raise SystemExit(f"{LABELS.name} and the catalogue name different models.")
    labelled = [row for row in rows if row.label]
    if unknown := {row.label for row in labelled} - set(CLASSES):
        raise SystemExit(f"{LABELS.name} has unknown classes {sorted(unknown)}; known: {', '.join(CLASSES)}.")
    for what, values in (
        ("group", [(plain_name(row.name), row.group) for row in labelled]),
        ("part", [(row.group, row.part) for row in labelled]),
        ("class", [(row.group, row.label) for row in labelled]),
    ):
        seen: dict[str, str] = {}
        for key, value in values:
            if seen.setdefault(key, value) != value:
                raise SystemExit(f"{LABELS.name}: '{key}' has more than one {what}: {seen[key]}, {value}.")
    parts = assign_parts(rows)
    if any(row.part != parts[row.group] for row in labelled):
        raise SystemExit(f"{LABELS.name}: column part is not by assign_parts; run with --assign-parts.")
    if len({(row.label, row.part) for row in labelled}) != len(CLASSES) * len(PARTS):
        raise SystemExit(f"{LABELS.name}: some class has no object in some part.")


def write_parts() -> None:
    """Rewrite the table's column `part`."""
    rows = read_labels()
    parts = assign_parts(rows)
    with LABELS.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Label.__dataclass_fields__)
        for row in rows:
            table.writerow([row.id, row.name, row.label, row.group, parts.get(row.group, ""), row.note])


# Meshes


@dataclass(frozen=True)
class Material:
    """How a surface looks: `texture` (height, width, 4) in 0 to 1 replaces the plain colour."""

    colour: Floats
    opacity: float = 1.0
    texture: Floats | None = None


@dataclass(frozen=True)
class Mesh:
    """Triangles in metres about the object's middle, a normal and a texture coordinate at each corner."""

    corners: Floats  # (triangle, 3, xyz)
    normals: Floats  # (triangle, 3, xyz)
    texture_at: Floats  # (triangle, 3, uv)
    material: Ints  # (triangle,)
    materials: list[Material]


@dataclass
class _Faces:
    """What an OBJ file says: triangles index into `vertices` and `texture_at`; -1 stands for none."""

    vertices: Floats
    texture_at: Floats
    corner: Ints  # (triangle, 3)
    texture_corner: Ints  # (triangle, 3)
    smooth: NDArray[np.bool_]  # (triangle,)
    material: list[str]  # (triangle,)


def read_obj(text: str) -> _Faces:
    """Vertices and triangulated faces of an OBJ file; other statements do not matter here."""
    vertices: list[tuple[float, ...]] = []
    texture_at: list[list[str]] = []
    corners: list[tuple[int, int, int]] = []
    texture_corners: list[tuple[int, int, int]] = []
    smooth: list[bool] = []
    material: list[str] = []
    current, smoothing = "", False
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            vertices.append(tuple(map(float, rest.split()[:3])))
        elif word == "vt":
            texture_at.append(rest.split()[:2])
        elif word == "usemtl":
            current = rest.strip()
        elif word == "s":
            smoothing = rest.strip() not in ("off", "0")
        elif word == "f":
            points = [point.split("/") for point in rest.split()]
            v = [_index(point[0], len(vertices)) for point in points]
            t = [_index(point[1], len(texture_at)) if len(point) > 1 else -1 for point in points]
            has_normal = len(points[0]) > 2
            for i, j, k in triangulate([vertices[index] for index in v]):
                corners.append((v[i], v[j], v[k]))
                texture_corners.append((t[i], t[j], t[k]))
                smooth.append(smoothing or has_normal)
                material.append(current)
    return _Faces(
        np.array(vertices, float).reshape(-1, 3),
        np.array([*texture_at, ["0", "0"]], float),  # the extra row is what -1 refers to
        np.array(corners, np.int64).reshape(-1, 3),
        np.array(texture_corners, np.int64).reshape(-1, 3),
        np.array(smooth, bool),
        material,
    )


def _index(word: str, count: int) -> int:
    """OBJ counts from 1, or backwards from the latest with negative numbers."""
    number = int(word) if word else 0
    return number - 1 if number > 0 else count + number if number < 0 else -1


def triangulate(polygon: Sequence[tuple[float, ...]]) -> list[tuple[int, int, int]]:
    """Corner numbers of triangles that fill a polygon, by cutting off ears.

    A simple fan from the first corner would fill in the openings of doors and windows, whose faces are drawn
    round their panes as one polygon.
    """
    left = list(range(len(polygon)))
    if len(left) <= 3:
        return [(0, 1, 2)][: len(left) // 3]
    flat = _flattened(polygon)
    triangles = []
    while len(left) > 3:
        ear = next((i for i in range(len(left)) if _is_ear(flat, left, i)), 0)
        triangles.append((left[ear - 1], left[ear], left[(ear + 1) % len(left)]))
        del left[ear]
    return [*triangles, (left[0], left[1], left[2])]


def _flattened(polygon: Sequence[tuple[float, ...]]) -> list[tuple[float, float]]:
    """A polygon seen along the axis nearest to its normal, counterclockwise."""
    areas = [0.0, 0.0, 0.0]
    for p, q in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        for axis in range(3):
            a, b = (axis + 1) % 3, (axis + 2) % 3
            areas[axis] += p[a] * q[b] - p[b] * q[a]
    axis = max(range(3), key=lambda axis: abs(areas[axis]))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    return [(p[a], p[b]) if areas[axis] > 0 else (p[b], p[a]) for p in polygon]


def _is_ear(flat: list[tuple[float, float]], left: list[int], i: int) -> bool:
    """Whether the corner sticks out and no other remaining corner lies in its triangle."""
    a, b, c = flat[left[i - 1]], flat[left[i]], flat[left[(i + 1) % len(left)]]
    if _turn(a, b, c) <= 0:
        return False
    others = (flat[k] for k in left if flat[k] not in (a, b, c))
    return not any(_turn(a, b, p) >= 0 and _turn(b, c, p) >= 0 and _turn(c, a, p) >= 0 for p in others)


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    """Twice the area of a triangle, positive where it turns left."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


class Files:
    """The members of a catalogue by path, in whatever case a model spells them."""

    def __init__(self, path: Path) -> None:
        """Open the `.sh3f` file at `path`."""
        self.archive = zipfile.ZipFile(path)
        self.names = {name.lower(): name for name in self.archive.namelist()}

    def __contains__(self, name: str) -> bool:
        """Whether there is a member of this name in some spelling."""
        return name.lower() in self.names

    def read(self, name: str) -> bytes:
        """A member's bytes."""
        return self.archive.read(self.names[name.lower()])

    def beside(self, name: str, other: str) -> str:
        """The path of `other` as the file `name` writes it."""
        return os.path.normpath(PurePosixPath(name).parent / other.replace("\\", "/")).replace(os.sep, "/")


@cache
def open_files(path: Path) -> Files:
    """One open archive per process and catalogue."""
    return Files(path)


def read_materials(files: Files, obj: str, text: str) -> dict[str, Material]:
    """The materials of all libraries that an OBJ file names; a few were never packed, nor some pictures."""
    found: dict[str, Material] = {}
    named = re.findall(r"^mtllib\s+(.+?)\s*$", text, re.MULTILINE)
    for library in (files.beside(obj, name) for name in named):
        if library not in files:
            continue
        entries: dict[str, dict[str, str]] = {}
        entry: dict[str, str] = {}
        for line in files.read(library).decode("latin-1").splitlines():
            word, _, rest = line.strip().partition(" ")
            if word == "newmtl":
                entry = entries.setdefault(rest.strip(), {})
            else:
                entry[word] = rest.strip()
        found |= {name: _material(files, obj, entry) for name, entry in entries.items()}
    return found


def _material(files: Files, obj: str, entry: dict[str, str]) -> Material:
    colour = np.array(entry.get("Kd", "0.8 0.8 0.8").split()[:3], float)
    picture = files.beside(obj, entry.get("map_Kd", ""))
    # Some lamps give the glass of their shades as all but absent; they would lose it.
    opacity = max(float(entry.get("d", "1").split()[0]), 0.2)
    return Material(colour, opacity, _texture(files, picture) if picture in files else None)


def _texture(files: Files, name: str) -> Floats:
    """A picture as (height, width, rgb and opacity) in 0 to 1, its first row at the bottom as OBJ counts."""
    picture = Image.open(io.BytesIO(files.read(name))).convert("RGBA")
    picture.thumbnail((TEXTURE_SIDE, TEXTURE_SIDE), Image.Resampling.BOX)
    return np.asarray(picture, np.float64)[::-1] / 255


def read_mesh(model: Model) -> Mesh:
    """A model upright, at its true size, about the middle of its bounding box."""
    files = open_files(model.catalogue)
    text = files.read(model.obj).decode("latin-1")
    faces = read_obj(text)
    known = read_materials(files, model.obj, text)
    names = sorted(set(faces.material))
    number = {name: i for i, name in enumerate(names)}
    vertices = _placed(faces.vertices, faces.corner, model)
    corners = vertices[faces.corner]
    normals = _corner_normals(corners, faces.corner, faces.smooth, len(vertices))
    kept = np.isfinite(normals).all(axis=(1, 2))  # triangles without area have no normal
    return Mesh(
        corners[kept],
        normals[kept],
        faces.texture_at[faces.texture_corner][kept],
        np.array([number[name] for name in faces.material], np.int64)[kept],
        [known.get(name, Material(np.full(3, 0.8))) for name in names],
    )


def _placed(vertices: Floats, used: Ints, model: Model) -> Floats:
    """Vertices turned, centred and scaled as the catalogue asks; a flat side stays flat."""
    turned: Floats = (vertices[:, None, :] * np.array(model.rotation).reshape(3, 3)).sum(axis=2)
    low, high = turned[used].min(axis=(0, 1)), turned[used].max(axis=(0, 1))
    extent = np.where(high > low, high - low, np.inf)
    scale = np.where(high > low, np.array(model.size) / extent, 1)
    turned = (turned - (low + high) / 2) * scale
    return turned


def _corner_normals(corners: Floats, corner: Ints, smooth: NDArray[np.bool_], vertices: int) -> Floats:
    """A normal for each corner: shared among smooth neighbours unless they meet at over 60 degrees."""
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    with np.errstate(invalid="ignore", divide="ignore"):
        face = area / np.linalg.norm(area, axis=1, keepdims=True)
        shared = np.zeros((vertices, 3))
        for i in range(3):
            np.add.at(shared, corner[smooth, i], area[smooth])
        shared /= np.linalg.norm(shared, axis=1, keepdims=True)
    face = np.repeat(face[:, None], 3, axis=1)
    alike = smooth[:, None] & ((shared[corner] * face).sum(axis=2) > 0.5)
    return np.where(alike[..., None], shared[corner], face)


# Pictures


@dataclass(frozen=True)
class Camera:
    """A pinhole at `position`, looking along `forward` at the middle of the object; metres."""

    position: Floats
    forward: Floats
    right: Floats
    up: Floats

    def rays(self, side: int) -> Floats:
        """Unit directions through the middles of `side` x `side` pixels, row by row: (ray, xyz)."""
        step = np.tan(FIELD_OF_VIEW / 2) * (2 * np.arange(side) + 1 - side) / side
        x, y = np.meshgrid(step, -step)
        directions: Floats = self.forward + x[..., None] * self.right + y[..., None] * self.up
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return directions.reshape(-1, 3)


def camera(mesh: Mesh, azimuth: float) -> Camera:
    """The camera in a fixed direction, as near as it can be with every vertex in the frame."""
    level = np.cos(ELEVATION)
    backward = np.array([np.sin(azimuth) * level, np.sin(ELEVATION), np.cos(azimuth) * level])
    right = np.array([np.cos(azimuth), 0, -np.sin(azimuth)])
    up = np.cross(backward, right)
    points = mesh.corners.reshape(-1, 3)
    sideways = np.maximum(abs((points * right).sum(axis=1)), abs((points * up).sum(axis=1)))
    reach = sideways / (FRAME_FILLED * np.tan(FIELD_OF_VIEW / 2)) + (points * backward).sum(axis=1)
    return Camera(reach.max() * backward, -backward, right, up)


@dataclass(frozen=True)
class Seen:
    """What rays met: colour (ray, 3) in 0 to 1 with the background, and distance (ray,), 0 for nothing."""

    colour: Floats
    distance: Floats


def look(mesh: Mesh, scene: EmbreeScene, view: Camera, rays: Floats) -> Seen:
    """Follow rays through glass and cut-out texture; the distance is to the first surface that is there."""
    colour, distance = np.zeros((len(rays), 3)), np.zeros(len(rays))
    passing = np.ones(len(rays))  # the share of light that is still to come from further behind
    travelled = np.zeros(len(rays))
    still = np.arange(len(rays))
    nudge = 1e-4 * np.linalg.norm(view.position)  # past the surface just met
    for _ in range(LAYERS):
        origins = view.position + rays[still] * travelled[still, None]
        hit = scene.run(origins.astype(np.float32), rays[still].astype(np.float32), output=1)
        met = hit["primID"] >= 0
        still = still[met]
        if not len(still):
            break
        u, v = hit["u"][met].astype(float), hit["v"][met].astype(float)
        weights = np.stack([1 - u - v, u, v], axis=1)
        light, opacity = shade(mesh, hit["primID"][met], weights, rays[still], view)
        reached = travelled[still] + hit["tfar"][met]
        first = (distance[still] == 0) & (opacity > 0.05)
        distance[still[first]] = reached[first]
        colour[still] += (passing[still] * opacity)[:, None] * light
        passing[still] *= 1 - opacity
        travelled[still] = reached + nudge
        still = still[passing[still] > 0.02]
    return Seen(colour + passing[:, None] * BACKGROUND, distance)


def shade(mesh: Mesh, triangle: Ints, weights: Floats, rays: Floats, view: Camera) -> tuple[Floats, Floats]:
    """Colour (ray, 3) and opacity (ray,) where rays meet triangles at barycentric `weights` (ray, 3)."""
    colour, opacity = _surface(mesh, triangle, weights)
    normal = (mesh.normals[triangle] * weights[..., None]).sum(axis=1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    facing = (normal * rays).sum(axis=1)
    normal = np.where(facing[:, None] > 0, -normal, normal)  # models are not careful about which side is out
    lamp = -view.forward + 0.8 * view.up - 0.4 * view.right
    direct = np.maximum((normal * lamp / np.linalg.norm(lamp)).sum(axis=1), 0)
    lit = colour * (0.36 + 0.13 * normal[:, 1] + 0.44 * direct)[:, None]
    # Glass seen at a grazing angle mirrors: without this a drinking glass would be all but invisible.
    rim = np.where((opacity > 0.05) & (opacity < 0.95), (1 - abs(facing)) ** 2 * 0.5, 0)
    # Many materials are darker than what they stand for; this lifts them, and white stays off the background.
    return 1 - (1 - lit) ** 2, opacity + (1 - opacity) * rim


def _surface(mesh: Mesh, triangle: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """Unlit colour and opacity at points of triangles."""
    colour, opacity = np.empty((len(triangle), 3)), np.empty(len(triangle))
    for number in np.unique(mesh.material[triangle]):
        here = mesh.material[triangle] == number
        material = mesh.materials[number]
        colour[here], opacity[here] = material.colour, material.opacity
        if material.texture is not None:
            at = (mesh.texture_at[triangle[here]] * weights[here][..., None]).sum(axis=1) % 1
            height, width = material.texture.shape[:2]
            row = np.minimum((at[:, 1] * height).astype(int), height - 1)
            column = np.minimum((at[:, 0] * width).astype(int), width - 1)
            texel = material.texture[row, column]
            colour[here] = texel[:, :3]
            opacity[here] *= texel[:, 3]
    return colour, opacity


def render(mesh: Mesh, azimuth: float) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """One view: colour (row, column, 3), and depth (row, column) in mm along the optical axis, 0 for none."""
    scene = EmbreeScene()
    TriangleMesh(scene, mesh.corners.astype(np.float32))
    view = camera(mesh, azimuth)
    fine = look(mesh, scene, view, view.rays(SIDE * SAMPLES)).colour
    colour = fine.reshape(SIDE, SAMPLES, SIDE, SAMPLES, 3).mean(axis=(1, 3))
    rays = view.rays(SIDE)
    depth = look(mesh, scene, view, rays).distance * (rays * view.forward).sum(axis=1)
    if depth.max() * 1000 > np.iinfo(np.uint16).max:
        raise ValueError(f"the object is {depth.max():.0f} m away, too far for millimetres in 16 bits")
    if (depth > 0).mean() < 0.002:
        raise ValueError("hardly anything of the object is to be seen")
    millimetres = np.rint(depth * 1000).astype(np.uint16).reshape(SIDE, SIDE)
    return np.rint(np.clip(colour, 0, 1) * 255).astype(np.uint8), millimetres


def png(pixels: NDArray[Any]) -> bytes:
    """Pixels as a PNG file: RGB from (row, column, 3) bytes, 16-bit grey from (row, column) words."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# Speech


def phrase(name: str) -> str:
    """The caption of an object.

    >>> phrase("oak chair"), phrase("urinal"), phrase("SUV")
    ('This is an oak chair.', 'This is a urinal.', 'This is an SUV.')
    """
    spelt = re.match(r"[A-Z]{2}|[A-Z]+\d", name) is not None  # said letter by letter
    vowel = name[0] in "AEFHILMNORSX" if spelt else name[0].lower() in "aeiou"
    consonant = re.match(r"(uni|use|uri|ute|eu|one)", name.lower()) is not None
    return f"This is {'an' if vowel and not consonant else 'a'} {name}."


def voice(id: str) -> str:
    """A voice by hash of the id, not of the group: thus objects of one name are not all heard alike."""
    return VOICES[int(sha256(f"voice {id}".encode()), 16) % len(VOICES)]


def speak(text: str, voice: str, folder: Path) -> bytes:
    """A sentence as Ogg Vorbis, 16 kHz, one channel; a little slower than flite would say it."""
    with tempfile.NamedTemporaryFile(suffix=".wav", dir=folder) as wave:
        command = ["flite", "-voice", voice, "--setf", "duration_stretch=1.15", "-t", text, "-o", wave.name]
        subprocess.run(command, check=True)
        samples, rate = soundfile.read(wave.name, dtype="float32")
    if rate != SAMPLE_RATE:
        raise SystemExit(f"flite's voice {voice} speaks at {rate} Hz, expected {SAMPLE_RATE}.")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="OGG", subtype="VORBIS", compression_level=0.7)
    return with_serial(buffer.getvalue(), int(sha256(f"{voice} {text}".encode())[:8], 16))


def with_serial(ogg: bytes, serial: int) -> bytes:
    """An Ogg stream with its random serial number replaced in each page, and the page's checksum redone."""
    pages, start = [], 0
    while start < len(ogg):
        segments = ogg[start + 26]
        end = start + 27 + segments + sum(ogg[start + 27 : start + 27 + segments])
        page = bytearray(ogg[start:end])
        page[14:18] = serial.to_bytes(4, "little")
        page[22:26] = bytes(4)
        page[22:26] = _ogg_checksum(page).to_bytes(4, "little")
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


@cache
def _ogg_checksums() -> list[int]:
    """CRC-32 of each byte with Ogg's polynomial, most significant bit first."""
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
        table.append(value & 0xFFFFFFFF)
    return table


def _ogg_checksum(page: bytearray) -> int:
    table, value = _ogg_checksums(), 0
    for byte in page:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


# The build


def members_of(row: Label) -> list[str]:
    """The files of one object in the archive."""
    views = range(len(AZIMUTHS))
    pictures = [f"{kind}/{row.id}_{view}.png" for kind in ("image", "depth") for view in views]
    return [*pictures, f"audio/{row.id}.ogg"]


def make(row: Label, model: Model, work: Path) -> tuple[str, str]:
    """Make the files of one object that are missing from `work`: its id and what went wrong, if anything."""
    try:
        if not all((work / name).exists() for name in members_of(row)[:-1]):
            mesh = read_mesh(model)
            for view, azimuth in enumerate(AZIMUTHS):
                image, depth = render(mesh, azimuth)
                write(work / f"image/{row.id}_{view}.png", png(image))
                write(work / f"depth/{row.id}_{view}.png", png(depth))
        # Spoken files carry their sentence in a note beside them, for names in the table may still change.
        sentence, spoken = phrase(row.name), work / f"audio/{row.id}.txt"
        if not spoken.exists() or spoken.read_text(encoding="utf-8") != sentence:
            write(work / f"audio/{row.id}.ogg", speak(sentence, voice(row.id), work))
            write(spoken, sentence.encode())
    except (ValueError, KeyError, OSError) as error:
        return row.id, f"{type(error).__name__}: {error}"
    return row.id, ""


def write(path: Path, data: bytes) -> None:
    """All of a file or nothing, so that an interrupted build leaves no halves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(path.suffix + ".part")
    part.write_bytes(data)
    part.replace(path)


def make_all(rows: list[Label], models: dict[str, Model], work: Path, jobs: int) -> None:
    """Make every object's files; stop with the list of those that failed."""
    failed = {}
    with ProcessPoolExecutor(jobs) as pool:
        results = pool.map(partial(make, work=work), rows, [models[row.id] for row in rows])
        for done, (id, error) in enumerate(results, 1):
            if done % 50 == 0 or done == len(rows):
                print(f"{done} of {len(rows)} objects", file=sys.stderr, flush=True)
            if error:
                failed[id] = error
    if failed:
        listed = "\n".join(f"  {id}: {error}" for id, error in failed.items())
        raise SystemExit(f"Empty the label of these in {LABELS.name}, with the reason as note:\n{listed}")


def attribution(rows: list[Label], models: dict[str, Model]) -> str:
    """Who made what, under which licence, and what was changed."""
    lines = [
        "homeobjects: attribution",
        "",
        "The images, depth maps and names of this data set are made from 3D models of the Debian package",
        "sweethome3d-furniture 1.8-1 (SweetHome3D additional 3D models, collected and converted by",
        "Emmanuel Puybaret / eTeks, www.sweethome3d.com). Changes: the models were scaled to the size their",
        "catalogue gives and rendered as colour images and depth maps; their names were simplified and read",
        "aloud by flite. Each model is listed by its id here, with its name and creator, under the licence",
        "that its catalogue gives. The licences' texts: creativecommons.org/licenses/by/3.0,",
        "creativecommons.org/licenses/by/3.0/us and creativecommons.org/publicdomain/zero/1.0.",
    ]
    by_catalogue = defaultdict(list)
    for row in rows:
        by_catalogue[models[row.id].catalogue.stem, models[row.id].licence].append(models[row.id])
    for (catalogue, licence), found in sorted(by_catalogue.items()):
        lines += ["", f"{catalogue} ({len(found)} models). Licence: {licence}", ""]
        found.sort(key=lambda model: model.id)
        lines += [f"{model.id}: {model.name}, by {model.creator}" for model in found]
    return "\n".join(lines) + "\n"


def items_csv(rows: list[Label]) -> str:
    """The archive's table of objects."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(["id", "label", "group", "part", "name", "text"])
    table.writerows([row.id, row.label, row.group, row.part, row.name, phrase(row.name)] for row in rows)
    return buffer.getvalue()


def pack(rows: list[Label], credits: str, work: Path, out: Path) -> None:
    """Write the archive: members sorted by name, without times, media as they are and text deflated."""
    members = {name: (work / name).read_bytes() for row in rows for name in members_of(row)}
    members["items.csv"] = items_csv(rows).encode()
    members["ATTRIBUTION.txt"] = credits.encode()
    sums = "".join(f"{sha256(members[name])}  {name}\n" for name in sorted(members))
    members["SHA256SUMS"] = sums.encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            packed = name.endswith((".png", ".ogg"))
            method = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name], method)
    write(out, buffer.getvalue())


def check_archive(out: Path) -> None:
    """Read the archive back: every checksum, picture and sound."""
    with zipfile.ZipFile(out) as archive:
        for line in archive.read("SHA256SUMS").decode().splitlines():
            digest, name = line.split("  ")
            data = archive.read(name)
            if sha256(data) != digest:
                raise SystemExit(f"{name} in {out} does not have the checksum {digest}.")
            if name.endswith(".png"):
                picture = Image.open(io.BytesIO(data))
                wanted = ("RGB" if name.startswith("image/") else "I;16", (SIDE, SIDE))
                if (picture.mode, picture.size) != wanted:
                    raise SystemExit(f"{name} in {out} is {picture.mode} {picture.size}, expected {wanted}.")
            elif name.endswith(".ogg"):
                samples, rate = soundfile.read(io.BytesIO(data))
                if rate != SAMPLE_RATE or samples.ndim != 1 or not 1 <= len(samples) / rate <= 5:
                    raise SystemExit(f"{name} in {out} is no 1 to 5 s of speech at {SAMPLE_RATE} Hz.")


def sha256(data: bytes) -> str:
    """The digest in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


# The contact sheet

SHOWN = (
    "scopia_bed1", "blend_swap_ccby_bookcase", "blend_swap_cc0_antiquechair", "scopia_glass_door",
    "blend_swap_ccby_walldoublesocket", "kator_legaz_apple_imac_1998", "blend_swap_cc0_coffeebrewer",
    "scopia_little_lamp3", "reallusion_female01", "scopia_bonsai_tree", "scopia_small_lavatory",
    "scopia_beige_sofa", "blend_swap_cc0_oaktable", "blend_swap_cc0_caffe_final", "scopia_peugeot_308",
    "scopia_window_2x4_arched",
)  # fmt: skip
COLUMNS, CELL, PICTURE, MARGIN = 4, (374, 246), 176, 12  # pixels
INK, PALE = (32, 32, 32), (120, 120, 120)


def contact_sheet(rows: list[Label], work: Path, path: Path) -> None:
    """A picture for the README: of every class one object, its image, its depth map and its caption."""
    by_id = {row.id: row for row in rows}
    lines = -(-len(SHOWN) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * CELL[0] + MARGIN, lines * CELL[1] + MARGIN), "white")
    for place, row in enumerate(sorted((by_id[id] for id in SHOWN), key=lambda row: row.label)):
        at = (place % COLUMNS * CELL[0] + MARGIN, place // COLUMNS * CELL[1] + MARGIN)
        _draw_object(sheet, row, work, at)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    write(path, buffer.getvalue())


def _draw_object(sheet: Image.Image, row: Label, work: Path, at: tuple[int, int]) -> None:
    image = Image.open(work / f"image/{row.id}_0.png")
    depth = np.asarray(Image.open(work / f"depth/{row.id}_0.png"), float)
    near, far = depth[depth > 0].min(), depth.max()
    # Near is bright, the background darkest, so that the map reads without a legend.
    grey = np.where(depth > 0, 250 - 190 * (depth - near) / max(far - near, 1), 24).astype(np.uint8)
    draw = ImageDraw.Draw(sheet)
    draw.text(at, row.label, INK, ImageFont.load_default(17))
    for column, picture in enumerate((image, Image.fromarray(grey).convert("RGB"))):
        corner = at[0] + column * (PICTURE + 2), at[1] + 24
        sheet.paste(picture.resize((PICTURE, PICTURE), Image.Resampling.LANCZOS), corner)
    draw.rectangle((at[0], at[1] + 24, at[0] + PICTURE - 1, at[1] + 23 + PICTURE), outline=(225, 225, 225))
    below = at[1] + 24 + PICTURE + 4
    draw.text((at[0], below), phrase(row.name), INK, ImageFont.load_default(14))
    reach = f"{near / 1000:.2f} to {far / 1000:.2f} m"
    right = at[0] + 2 * PICTURE + 2
    draw.text((right, below), reach, PALE, ImageFont.load_default(13), anchor="ra")


def build(deb: Path, out: Path, work: Path, jobs: int, only: list[str] | None) -> None:
    """Everything from the Debian package to the checked archive."""
    work.mkdir(parents=True, exist_ok=True)
    models = read_furniture(deb, work / "furniture")
    table = read_labels()
    check_labels(table, models)
    labelled = {row.id: row for row in table if row.label}
    if unknown := set(only or ()) - set(labelled):
        raise SystemExit(f"--only: no labelled object has the id {', '.join(sorted(unknown))}.")
    rows = [labelled[id] for id in sorted(only or labelled)]
    make_all(rows, models, work, jobs)
    credits = attribution(rows, models)
    pack(rows, credits, work, out)
    check_archive(out)
    if not only:
        write(ATTRIBUTION, credits.encode())
    print(f"{out}: {len(rows)} objects, {out.stat().st_size / 1e6:.1f} MB, sha256 {sha256(out.read_bytes())}")


def main() -> None:
    """The command line."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--furniture", type=Path, help="the Debian package sweethome3d-furniture 1.8-1")
    parser.add_argument("--out", type=Path, default=HERE / "homeobjects.zip", help="the archive to write")
    parser.add_argument("--work", type=Path, help="where to keep what is done; default: beside the archive")
    parser.add_argument("--sheet", type=Path, help="also draw a contact sheet, a PNG")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes; the result is the same")
    parser.add_argument("--only", nargs="*", metavar="ID", help="build these objects alone, for a trial")
    parser.add_argument("--assign-parts", action="store_true", help="only rewrite the table's column part")
    given = parser.parse_args()
    if given.assign_parts:
        write_parts()
        return
    if given.furniture is None:
        parser.error("--furniture is needed: the file sweethome3d-furniture_1.8-1_all.deb")
    work = given.work or given.out.with_suffix(".work")
    build(given.furniture, given.out, work, given.jobs, given.only)
    if given.sheet:
        contact_sheet(read_labels(), work, given.sheet)


if __name__ == "__main__":
    main()
