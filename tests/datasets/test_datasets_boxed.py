"""Folders of boxes: three ways to write the same, and each mistake in a word, before anything runs.

There are nine pictures, so that one is more than a tenth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoobench import datasets
from zoobench.datasets import boxfiles_coco
from zoobench.errors import BadData, UserError
from zoobench.files import parse_json
from zoobench.interfaces import Split, Splits
from zoobench.tasks.detection import Annotation, boxes_of

CLASSES = ("cat", "dog", "owl")
N = 9
WIDTH, HEIGHT = 40, 20
Box = tuple[int, int, int, int]


def objects(i: int) -> list[tuple[Box, str]]:
    """Picture i's: one cat or dog, on every third an owl beside it; none on the last."""
    if i % N == N - 1:
        return []
    first = ((2 * (i % 5), 1, 2 * (i % 5) + 8, 11), CLASSES[i % 2])
    return [first, ((20, 5, 36, 20), "owl")] if i % 3 == 0 else [first]


def write_pictures(folder: Path, n: int = N, start: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n):
        noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{i}.png")


def coco(n: int = N, start: int = 0) -> dict[str, Any]:
    """With ids that are not 0 to C - 1, and a category that heads the others."""
    ids = {"animals": 0, "cat": 7, "dog": 12, "owl": 90}
    annotations = [
        {"image_id": f"i{i}", "category_id": ids[label], "iscrowd": 0,
         "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
         "area": (box[2] - box[0]) * (box[3] - box[1])}
        for i in range(start, start + n)
        for box, label in objects(i)
    ]  # fmt: skip
    return {
        "images": [
            {"id": f"i{i}", "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT}
            for i in range(start, start + n)
        ],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [{"id": k, **row} for k, row in enumerate(annotations)],
    }


def voc(i: int) -> str:
    things = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{b[0] + 1}</xmin><ymin>{b[1] + 1}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for b, label in objects(i)
    )
    size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
    return f"<annotation><filename>other.jpg</filename>{size}{things}</annotation>"


def yolo(i: int) -> str:
    return "".join(
        f"{CLASSES.index(label)} {(b[0] + b[2]) / 2 / WIDTH} {(b[1] + b[3]) / 2 / HEIGHT} "
        f"{(b[2] - b[0]) / WIDTH} {(b[3] - b[1]) / HEIGHT}\n"
        for b, label in objects(i)
    )


def put(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def in_coco(root: Path) -> None:
    write_pictures(root)
    put(root / "_annotations.coco.json", coco())


def in_voc(root: Path) -> None:
    write_pictures(root)
    for i in range(N):
        put(root / f"{i}.xml", voc(i))


def in_yolo(root: Path) -> None:
    write_pictures(root / "images")
    for i in range(N - 1):  # a picture without a file has no objects
        put(root / "labels" / f"{i}.txt", yolo(i))
    put(root / "data.yaml", "train: ../../etc\nnames: [cat, dog, owl]\nnc: 3\n")


WAYS = {"coco": in_coco, "voc": in_voc, "yolo": in_yolo}


def resolved(root: Path, **options: object) -> str:
    extra = "".join(f"&{key}={value}" for key, value in options.items())
    return str(datasets.resolve(f"folder/scenes?path={root}&task=detection{extra}"))


def loaded(root: Path, **options: object) -> Splits:
    return datasets.load(resolved(root, **options))


def refused(root: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        resolved(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def held(splits: Splits) -> dict[str, Annotation]:
    """By the pixels of each picture."""
    return {
        str(np.asarray(split.read(i)).sum()): boxes_of(split).pictures[i]
        for split in (splits.train, splits.valid, splits.test)
        for i in range(len(split))
    }


@pytest.mark.parametrize("way", WAYS)
def test_boxes_are_the_same_however_they_are_written(way: str, tmp_path: Path) -> None:
    WAYS[way](tmp_path)
    splits = loaded(tmp_path)
    assert splits.task == "detection"
    assert splits.classes == CLASSES
    assert splits.notes["pictures_without_objects"] == 1
    found = held(splits)
    assert len(found) == N
    for i in range(N):
        noise = np.random.default_rng(i).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        one = found[str(noise.sum())]
        truth = objects(i)
        assert one.size == (HEIGHT, WIDTH)
        assert one.boxes == pytest.approx(np.array([b for b, _ in truth]).reshape(-1, 4))
        assert [CLASSES[label] for label in one.labels] == [label for _, label in truth]
        assert one.area == pytest.approx([(b[2] - b[0]) * (b[3] - b[1]) for b, _ in truth])
        assert not one.crowd.any()
    assert loaded(tmp_path).fingerprints == splits.fingerprints
    assert datasets.card(f"folder/a?path={tmp_path}&task=detection").task == "detection"


def parts_of(splits: Splits) -> list[int]:
    return [len(s) for s in (splits.train, splits.valid, splits.test)]


LAYOUTS = {
    # name: pictures, annotations of a picture and how they are written, and of a part
    "roboflow": ("{part}", "", None, "{part}/_annotations.coco.json"),
    "official": ("images/{part}", "", None, "annotations/instances_{part}.json"),
    "voc": ("{part}", "{part}/{i}.xml", voc, ""),
    "devkit": ("JPEGImages", "Annotations/{i}.xml", voc, ""),
    "yolo": ("{part}/images", "{part}/labels/{i}.txt", yolo, ""),
    "ultralytics": ("images/{part}", "labels/{part}/{i}.txt", yolo, ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_are_official_splits_in_every_layout(layout: str, tmp_path: Path) -> None:
    folder, single, writer, whole = LAYOUTS[layout]
    put(tmp_path / "classes.txt", "cat\ndog\nowl\n")
    for start, part, name in ((0, "train2017", "train"), (20, "val", "val"), (40, "test", "test")):
        write_pictures(tmp_path / folder.format(part=part), 10, start)
        listed = range(start, start + 10)
        if writer is not None:
            for i in listed:
                put(tmp_path / single.format(part=part, i=i), writer(i))
        else:
            put(tmp_path / whole.format(part=part), coco(10, start))
        if layout == "devkit":
            names = "".join(f"{i}\n" for i in listed)
            put(tmp_path / "ImageSets" / "Main" / f"{name}.txt", names)
    splits = loaded(tmp_path)
    assert splits.flags == ()
    for split, start in ((splits.train, 0), (splits.valid, 20), (splits.test, 40)):
        labels = [label for i in range(start, start + 10) for _, label in objects(i)]
        expected = [labels.count(name) for name in CLASSES]
        assert boxes_of(split).counts.sum(axis=0).tolist() == expected
        assert len(split) == 10


def devkit(**lists: range) -> Callable[[Path], None]:
    """Sixty pictures, of which the lists name some."""

    def apply(root: Path) -> None:
        write_pictures(root / "JPEGImages", 60)
        for i in range(60):
            put(root / "Annotations" / f"{i}.xml", voc(i))
        for name, rows in lists.items():
            put(root / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{i}\r\n" for i in rows))

    return apply


@pytest.mark.parametrize(
    ("lists", "sizes"),
    [
        ({"trainval": range(60)}, (43, 5, 12)),
        ({"trainval": range(40), "test": range(40, 60)}, (36, 4, 20)),
        ({"trainval": range(40), "train": range(20), "val": range(20, 40)}, (16, 20, 4)),
    ],
)
def test_a_devkits_lists_say_what_is_read(
    lists: dict[str, range], sizes: tuple[int, int, int], tmp_path: Path
) -> None:
    devkit(**lists)(tmp_path)
    splits = loaded(tmp_path)
    assert tuple(parts_of(splits)) == sizes
    named = len({i for rows in lists.values() for i in rows})
    apart = {"unused": {"picture that no list names": 60 - named}} if named < 60 else {}
    assert {k: v for k, v in splits.notes.items() if k == "unused"} == apart


def one_json(name: str, pictures: str = "", before: str = "") -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        write_pictures(root / pictures)
        body = coco()
        for row in body["images"]:
            row["file_name"] = before + row["file_name"]
        put(root / name, body)

    return apply


def two_json(name: str, pictures: str, before: str = "") -> Callable[[Path], None]:
    """Of train and of test; {} stands for the name of the part."""

    def apply(root: Path) -> None:
        for part, start in (("Train", 0), ("Test", 20)):
            write_pictures(root / pictures.format(part), N, start)
            body = coco(N, start)
            for row in body["images"]:
                row["file_name"] = before.format(part) + row["file_name"]
            put(root / name.format(part), body)

    return apply


def beside_text(folder: str = "", names: str = "classes.txt") -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        write_pictures(root / folder)
        for i in range(N - 1):
            put(root / folder / f"{i}.TXT", yolo(i))
        put(root / names, "cat\r\ndog\r\nowl\r\n")
        put(root / "train.txt", "0.png")

    return apply


def nested(root: Path) -> None:
    for part, start in (("train", 0), ("test", 20)):
        write_pictures(root / "images" / part / "a" / "\N{SNOWMAN} b", N, start)
        for i in range(start, start + N):
            put(root / "labels" / part / "a" / "\N{SNOWMAN} b" / f"{i}.txt",
                "\ufeff" + yolo(i).replace("\n", "\r\n"))  # fmt: skip
    put(root / "data.yaml", "\ufeffnames:\r\n- 'cat'\r\n- \"dog\"\r\n- owl\r\n")


def from_zero(root: Path) -> None:
    in_voc(root)
    for i in range(N):
        text = re.sub(r"min>(\d+)<", lambda found: f"min>{int(found[1]) - 1}<", voc(i))
        put(root / f"{i}.xml", text)


def test_xml_that_counts_from_0_says_the_same(tmp_path: Path) -> None:
    """Converters write left, top, right and bottom as they have them."""
    in_voc(tmp_path / "one")
    from_zero(tmp_path / "zero")
    one, zero = (
        {name: truth.boxes.tolist() for name, truth in held(loaded(tmp_path / way)).items()}
        for way in ("one", "zero")
    )
    assert one == zero


def in_upper_case(root: Path) -> None:
    in_voc(root)
    for i in range(N):
        (root / f"{i}.png").rename(root / f"{i}.PNG")
        (root / f"{i}.xml").rename(root / f"{i}.XML")


def voc_in_two_folders(root: Path) -> None:
    write_pictures(root / "images")
    for i in range(N):
        put(root / "annotations" / f"{i}.xml", voc(i))


def label_img(root: Path) -> None:
    in_yolo(root)
    (root / "data.yaml").unlink()
    put(root / "labels" / "classes.txt", "cat\ndog\nowl\n")


TOOLS: dict[str, Callable[[Path], None]] = {
    "CVAT's COCO": one_json("annotations/instances_default.json", "images"),
    "CVAT's COCO, its folder kept": one_json(
        "annotations/instances_default.json", "images/default"),
    "CVAT's parts": two_json("annotations/instances_{}.json", "images/{}"),
    "CVAT's parts, their folders in the names": two_json(
        "annotations/instances_{}.json", "images/{}", "{}/"),
    "CVAT's YOLO": beside_text("obj_train_data", "obj.names"),
    "Label Studio's COCO": one_json("result.json", "images", "images/"),
    "Label Studio's COCO by Windows": one_json("result.json", "images", "images\\"),
    "FiftyOne's COCO": one_json("labels.json", "data"),
    "a file beside": one_json("annotations.json"),
    "a file beside a folder": one_json("annotations.json", "images"),
    "Roboflow's COCO": two_json("{}/_annotations.coco.json", "{}"),
    "a file for each part": two_json("{}.json", "images"),
    "a file for each part, in a folder": two_json("annotations/{}.json", "images"),
    "COCO's own": two_json("annotations/instances_{}2017.json", "{}2017"),
    "upper case": in_upper_case,
    "XML in a folder of its own": voc_in_two_folders,
    "LabelImg's YOLO": label_img,
    "LabelImg's YOLO beside": beside_text(),
    "folders in folders": nested,
}  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_what_tools_write_is_read_whole(tool: str, tmp_path: Path) -> None:
    TOOLS[tool](tmp_path)
    splits = loaded(tmp_path)
    assert splits.classes == CLASSES
    parts = (splits.train, splits.valid, splits.test)
    starts = (0, 20) if sum(map(len, parts)) == 2 * N else (0,)
    expected = [label for start in starts for i in range(start, start + N)
                for _, label in objects(i)]  # fmt: skip
    counts = sum(boxes_of(part).counts.sum(axis=0) for part in parts)
    assert np.asarray(counts).tolist() == [expected.count(name) for name in CLASSES]
    assert "unused" not in splits.notes


def test_crowds_areas_polygons_and_difficult_objects(tmp_path: Path) -> None:
    in_coco(tmp_path / "coco")
    body = coco()
    body["annotations"][0]["iscrowd"] = 1
    body["annotations"][1]["area"] = 33.5
    del body["annotations"][2]["bbox"], body["annotations"][2]["area"]
    body["annotations"][2]["segmentation"] = [[2, 1, 10, 1, 10, 11]]
    put(tmp_path / "coco" / "_annotations.coco.json", body)
    whole = held(loaded(tmp_path / "coco"))
    assert sum(int(one.crowd.sum()) for one in whole.values()) == 1
    areas = sorted(float(area) for one in whole.values() for area in one.area)
    assert {33.5, 40.0} < set(areas)
    in_voc(tmp_path / "voc")
    put(tmp_path / "voc" / "1.xml", voc(1).replace("</name>", "</name><difficult>1</difficult>"))
    assert sum(int(one.crowd.sum()) for one in held(loaded(tmp_path / "voc")).values()) == 1
    in_yolo(tmp_path / "yolo")
    put(tmp_path / "yolo" / "labels" / "1.txt", "1 0.05 0.05 0.25 0.05 0.25 0.55 0.05 0.55\n")
    polygon = held(loaded(tmp_path / "yolo"))
    assert any(one.boxes.tolist() == [[2, 1, 10, 11]] for one in polygon.values())


def test_polygons_beside_boxes_are_let_go_as_they_are_read() -> None:
    """They are nine tenths of COCO's file of half a gigabyte."""
    rows = [{"bbox": [0, 0, 1, 1], "segmentation": [[1] * 8]}, {"segmentation": [[1] * 8]}]
    assert parse_json(json.dumps(rows), boxfiles_coco._light) == [{"bbox": [0, 0, 1, 1]}, rows[1]]


def test_what_rounding_leaves_outside_is_cut_off_and_twins_count_once(tmp_path: Path) -> None:
    in_coco(tmp_path)
    body = coco()
    body["annotations"][0]["bbox"] = [-0.6, 0, 41.2, 20.4]
    body["annotations"].append({**body["annotations"][2], "id": 99})
    put(tmp_path / "_annotations.coco.json", body)
    splits = loaded(tmp_path)
    assert splits.notes["boxes_given_twice"] == 1
    assert any([0, 0, 40, 20] in one.boxes.tolist() for one in held(splits).values())


def with_labels(root: Path, text: str) -> Path:
    """Nine pictures that differ, and in each of them the same objects."""
    in_yolo(root)
    for i in range(N):
        put(root / "labels" / f"{i}.txt", text)
    return root


def test_pictures_may_all_hold_the_same_boxes(tmp_path: Path) -> None:
    """As where a fixed camera looks at one machine: other targets are not what is learned."""
    splits = loaded(with_labels(tmp_path, "1 0.5 0.5 0.2 0.4\n"))
    held = [one for s in (splits.train, splits.test) for one in boxes_of(s).pictures]
    assert len({one.digest for one in held}) == 1
    assert splits.notes["classes_not_in_train"] == ["cat", "owl"]


def test_pictures_without_any_object_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no picture of train has an object"):
        loaded(with_labels(tmp_path, ""))


def test_ten_thousand_boxes_in_a_picture_are_read(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    lines = "".join(f"0 0.5 0.5 {0.1 + k / 20_000} 0.5\n" for k in range(10_000))
    put(tmp_path / "labels" / "0.txt", lines)
    assert max(len(one.labels) for one in held(loaded(tmp_path)).values()) == 10_000


def in_json(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        in_coco(root)
        body = coco()
        change(body)
        put(root / "_annotations.coco.json", body)

    return apply


def box(*sides: object) -> Callable[[Path], None]:
    return in_json(lambda body: body["annotations"][0].update(bbox=list(sides)))


def in_xml(old: str, new: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        in_voc(root)
        put(root / "0.xml", voc(0).replace(old, new))

    return apply


def in_text(line: str, name: str = "labels/0.txt") -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        in_yolo(root)
        put(root / name, line)

    return apply


def without(way: str, *names: str) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        WAYS[way](root)
        for name in names:
            (root / name).unlink()

    return apply


def both(root: Path) -> None:
    in_coco(root)
    in_voc(root)


def no_train(root: Path) -> None:
    in_coco(root / "val")


def no_objects_in_test(root: Path) -> None:
    for start, part in ((0, "train"), (20, "test")):
        write_pictures(root / part, N, start)
        body = coco(N, start)
        body["annotations"] = body["annotations"] if part == "train" else []
        put(root / part / "_annotations.coco.json", body)


def turned_by_exif(root: Path) -> None:
    in_coco(root)
    with Image.open(root / "0.png") as picture:
        exif = picture.getexif()
        exif[0x112] = 6
        picture.save(root / "0.png", exif=exif)


def no_labels_of_valid(root: Path) -> None:
    for part, start in (("train", 0), ("val", 20)):
        write_pictures(root / part / "images", N, start)
    for i in range(N):
        put(root / "train" / "labels" / f"{i}.txt", yolo(i))
    put(root / "data.yaml", "names: [cat, dog, owl]")


def strange(root: Path) -> None:
    write_pictures(root)


MISTAKES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an empty box": (box(3, 3, 0, 5), "0.png: its box (3, 3, 3, 8) of 'cat' is empty"),
    "a flipped box": (box(9, 3, -4, 5), "has its corners the wrong way round"),
    "a box outside": (box(100, 3, 5, 5), "lies outside its picture of 40 x 20 pixels"),
    "a box far beyond": (box(30, 3, 15, 5), "lies outside its picture of 40 x 20 pixels"),
    "a box that is no number": (box(float("nan"), 3, 5, 5), "is no number"),
    "an endless box": (box(1, 1, float("inf"), 5), "is no number"),
    "three sides": (box(1, 1, 5), "an annotation that is no box"),
    "a word for a side": (box(1, 1, "wide", 5), "an annotation that is no box"),
    "an unknown category": (
        in_json(lambda b: b["annotations"][0].update(category_id=3)),
        "its category 3 is not listed"),
    "an unknown image": (
        in_json(lambda b: b["annotations"][0].update(image_id="i99")),
        "1 annotations are of images that it does not list"),
    "two images of one id": (
        in_json(lambda b: b["images"].append(b["images"][0])), "two image ids are the same"),
    "two categories of one id": (
        in_json(lambda b: b["categories"].append({"id": 7, "name": "cow"})), "two category ids"),
    "two categories of one name": (
        in_json(lambda b: b["categories"].append({"id": 8, "name": "cat"})), "have one name"),
    "no categories": (in_json(lambda b: b.pop("categories")), "'categories' is missing"),
    "captions": (in_json(lambda b: b.update(annotations="none")), "not COCO's JSON"),
    "a size that differs": (
        in_json(lambda b: b["images"][0].update(width=20, height=40)),
        "0.png: it is 40 x 20 pixels, and 20 x 40 by its annotation"),
    "a number beyond all": (
        box(10**400, 3, 5, 5), "000 is no number"),
    "a size beyond all": (
        in_json(lambda b: b["images"][0].update(width=float("inf"))), "inf is no whole number"),
    "a category beyond all": (
        in_json(lambda b: b["annotations"][0].update(category_id=float("inf"))),
        "inf is no whole number"),
    "a category with a fraction": (
        in_json(lambda b: b["annotations"][0].update(category_id=7.5)), "7.5 is no whole number"),
    "a box that is text": (
        in_json(lambda b: b["annotations"][0].update(bbox="1234")),
        "the box '1234' is not four numbers"),
    "shares for pixels": (
        in_json(lambda b: [row.update(bbox=[0.2, 0.3, 0.4, 0.5]) for row in b["annotations"]]),
        "all its boxes lie in the first pixel: perhaps they are shares"),
    "an area above the picture's": (
        in_json(lambda b: b["annotations"][0].update(area=1e12)), "the area of one of its objects"),
    "an area that is no number": (
        in_json(lambda b: b["annotations"][0].update(area=10**400)), "000 is no number"),
    "neither box nor polygon": (
        in_json(lambda b: b["annotations"][0].update(bbox=None, segmentation={"counts": "1"})),
        "neither a bbox nor polygons"),
    "a polygon of numbers alone": (
        in_json(lambda b: b["annotations"][0].update(bbox=None, segmentation=[1, 2, 3, 4])),
        "a polygon that is no list of x, y"),
    "a category without a name": (
        in_json(lambda b: b["categories"][1].update(name=None)), "None is no name"),
    "a category that is half a character": (
        in_json(lambda b: b["categories"][1].update(name="\ud800")), "surrogates not allowed"),
    "a file that is half a character": (
        in_json(lambda b: b["images"][0].update(file_name="\ud800.png")), "surrogates not allowed"),
    "images that are no list": (
        in_json(lambda b: b.update(images={"a": 1})), "'images' is no list of tables"),
    "detections in place of annotations": (
        in_json(lambda b: b.update(annotations=[[1]])), "'annotations' is no list of tables"),
    "a picture that EXIF turns": (
        turned_by_exif, "0.png: it is 20 x 40 pixels, and 40 x 20 by its annotation: perhaps EXIF"),
    "a picture that is gone": (without("coco", "0.png"), "0.png: there is no such picture"),
    "no object at all": (in_json(lambda b: b.update(annotations=[])), "name no object"),
    "a picture that nobody annotates": (
        in_json(lambda b: (b["images"].pop(), b["images"].pop(1), b.update(annotations=[
            a for a in b["annotations"] if a["image_id"] != "i1"]))),
        "picture without annotation (2"),
    "two ways at once": (both, "annotations of COCO and of Pascal VOC"),
    "no annotations": (strange, "no annotations of boxes. Expected one of"),
    "no train": (no_train, "there is valid, but no train"),
    "test without objects": (no_objects_in_test, "no picture of test has an object"),
    "one object for three parts": (
        in_json(lambda b: b.update(annotations=b["annotations"][:1])), "has an object that counts"),
    "a crowd in every picture": (
        in_json(lambda b: [row.update(iscrowd=1) for row in b["annotations"]]),
        "no picture of train has an object that counts (a crowd does not)"),
    "XML that ends early": (in_xml("</annotation>", ""), "0.png: its XML cannot be read"),
    "an object without a name": (in_xml("cat", " "), "an object without a name"),
    "a box without a side": (in_xml("<xmin>1</xmin>", ""), "is no number"),
    "another size in XML": (in_xml("<width>40", "<width>41"), "and 41 x 20 by its annotation"),
    "a size beyond all in XML": (
        in_xml("<width>40", "<width>1e999"), "'1e999' is no whole number"),
    "XML of another kind": (
        in_xml("<annotation>", '<annotation xmlns="a">'), "it is a {a}annotation, not"),
    "XML in an encoding of nobody": (
        in_xml("<annotation>", '<?xml version="1.0" encoding="klingon"?><annotation>'),
        "unknown encoding: klingon"),
    "a list of more than there is": (devkit(trainval=range(90)), "JPEGImages/60.jpg: a list names"),
    "lists without train": (devkit(val=range(60)), "there is valid, but no train"),
    "a devkit around the devkit": (
        lambda root: devkit(trainval=range(60))(root / "VOC2007"), "lie further inside: path = "),
    "no picture beside XML": (without("voc", "3.png"), "3.jpg: there is no such picture"),
    "a class out of range": (in_text("3 .5 .5 .1 .1"), "line 1 is of class 3; 0 to 2 are known"),
    "half a class": (in_text("0.5 .5 .5 .1 .1"), "line 1 is of class 0.5"),
    "pixels for shares": (in_text("\n0 20 10 8 8"), "line 2 is in pixels; shares of the picture"),
    "six numbers": (in_text("0 .5 .5 .1 .1 .9"), "line 1 has 6 numbers; a box has 5"),
    "words for numbers": (in_text("cat .5 .5 .1 .1"), "0.txt: 'cat' is no number"),
    "no names": (without("yolo", "data.yaml"), "neither data.yaml nor classes.txt"),
    "labels without their pictures": (
        without("yolo", "images/0.png", "images/1.png"),
        "file of labels without a picture (2, such as 'labels/0.txt')"),
    "a part without labels": (no_labels_of_valid, "none of the 9 pictures of valid has a file"),
    "as many classes as numbers": (in_text("nc: 3", "data.yaml"), "it has no `names`"),
    "more classes than names": (
        in_text("nc: 4\nnames: [cat, dog, owl]", "data.yaml"), "names 3 classes, and nc is 4"),
    "names that count from 1": (
        in_text("names: {1: cat, 2: dog, 3: owl}", "data.yaml"), "without a gap; 0 is missing"),
    "an empty name": (in_text("names: [cat, '', owl]", "data.yaml"), "a class has no name"),
    "names that are none": (in_text("names: 5", "data.yaml"), "no list of words"),
    "no YAML": (in_text("{", "data.yaml"), "it is no YAML"),
    "names twice": (in_text("names: [a, b, a]", "data.yaml"), "two classes have one name"),
    "no label files": (without("yolo", *(f"labels/{i}.txt" for i in range(N - 1))),
                       "none of the 9 pictures has a file of labels"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_where_it_is(name: str, tmp_path: Path) -> None:
    change, why = MISTAKES[name]
    change(tmp_path)
    said = refused(tmp_path)
    assert why in said, said
    assert str(tmp_path) in said or "folder/scenes" in said


def test_one_damaged_example_of_nine_may_be_left_out(tmp_path: Path) -> None:
    box(3, 3, 0, 5)(tmp_path)
    splits = loaded(tmp_path, allow_unused="true")
    assert sum(parts_of(splits)) == N - 1
    assert splits.notes["corrupt"] == 1


def test_names_in_yaml_may_be_a_table_and_stay_words(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    put(tmp_path / "data.yaml", "names:\n  0: no\n  1: 1e3\n  2: owl\n")
    assert loaded(tmp_path).classes == ("no", "1e3", "owl")


def test_the_revision_follows_pictures_boxes_and_names(tmp_path: Path) -> None:
    in_yolo(tmp_path)
    first = resolved(tmp_path)
    assert resolved(tmp_path) == first
    put(tmp_path / "labels" / "1.txt", "0 .5 .5 .1 .1\n")
    second = resolved(tmp_path)
    put(tmp_path / "data.yaml", "names: [cat, cow, owl]\n")
    assert len({first, second, resolved(tmp_path)}) == 3
    with pytest.raises(BadData, match="not those that"):
        datasets.load(first)


def test_few_pictures_are_drawn_of_every_class(tmp_path: Path) -> None:
    in_coco(tmp_path)
    splits = loaded(tmp_path, max_train=4)
    assert len(splits.train) == 4
    assert isinstance(splits.train, Split)
