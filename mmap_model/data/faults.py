"""What can be wrong with images on disk, and what is done about it: plain data for layouts and checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Kind:
    """One sort of fault.

    Attributes:
        severity: an ``error`` stops a study, or would spoil it unseen; a ``warning`` changes what it
            measures; a ``note`` is dealt with when images are read.
        title: in a few words.
        remedy: what reading does about it, or what to do.
        drops: ``data check --fix`` leaves the image (or the line of a list) out.
    """

    severity: Severity
    title: str
    remedy: str
    drops: bool = False


KINDS = {
    "unreadable": Kind("error", "not an image", "left out with --fix", drops=True),
    "truncated": Kind("error", "truncated or damaged image", "left out with --fix", drops=True),
    "zero_bytes": Kind("error", "file of zero bytes", "left out with --fix", drops=True),
    "too_large": Kind("error", "image of too many pixels or passes", "left out with --fix", drops=True),
    "missing_file": Kind("error", "listed, but not there", "the line is left out with --fix", drops=True),
    "outside": Kind(
        "error",
        "link to a file outside of the root",
        "left out with --fix; allowed with dataset.links: anywhere",
        drops=True,
    ),
    "bad_name": Kind(
        "error",
        "name that no record can hold",
        "rename it; names that are not UTF-8 with, for example: convmv -r --notest -f latin1 -t utf8 ROOT",
    ),
    "bad_line": Kind("error", "line of a split list that cannot be read", "correct the list"),
    "swapped_lists": Kind("error", "split list of something else", "put the right list in its place"),
    "listed_twice": Kind("error", "image listed twice", "keep one of the lines"),
    "label_conflict": Kind("error", "class and label do not go together", "put the published lists back"),
    "fixed_lists": Kind("error", "fixed lists that a study refuses", "correct them"),
    "missing_class": Kind(
        "error", "class missing in a task", "add it, or name the others in dataset.classes"
    ),
    "unknown_class": Kind("error", "folder that is no class", "remove or rename it"),
    "empty_class": Kind("error", "class without images", "add images or remove the folder"),
    "long_name": Kind(
        "error", "class whose prompt is longer than the text tower takes", "set dataset.class_names"
    ),
    "same_class": Kind("error", "two folders of one class", "merge or rename them"),
    "no_test": Kind("error", "task whose shots leave nothing to test", "use fewer shots or add images"),
    "other_format": Kind("warning", "file in a format that is not read", "left out"),
    "broken_link": Kind("warning", "link that leads nowhere", "left out"),
    "nested": Kind("warning", "folder within a class", "what is in it is left out"),
    "stray": Kind("warning", "image outside of the class folders", "left out"),
    "class_set": Kind("warning", "class that other tasks do not have", "tasks keep their own class lists"),
    "class_name": Kind("warning", "class named differently in tasks", "rename, or set dataset.class_names"),
    "portable": Kind(
        "warning", "name that other systems change", "rename it, or copies get other draws and keys"
    ),
    "too_few": Kind("warning", "too few images for the shots", "the draw takes what it can"),
    "duplicate": Kind("warning", "same bytes twice in a class", "--fix keeps the first", drops=True),
    "duplicate_label": Kind(
        "warning", "same bytes under two classes of a task", "--fix leaves both out", drops=True
    ),
    "duplicate_split": Kind(
        "warning", "same bytes in training and test", "--fix leaves the training image out", drops=True
    ),
    "duplicate_task": Kind("warning", "same bytes in two tasks", "--fix keeps the first", drops=True),
    "by_content": Kind("note", "image known by its content alone", "read as what it is"),
    "not_image": Kind("note", "file that is not an image", "left out"),
    "cmyk": Kind("note", "CMYK colours", "converted to RGB"),
    "palette": Kind("note", "palette colours", "converted to RGB"),
    "grey": Kind("note", "no colour", "the grey stands in all three channels"),
    "alpha": Kind("note", "transparency", "dropped"),
    "deep": Kind("note", "16 or 32 bits per channel", "scaled to 8 bits"),
    "rotated": Kind("note", "EXIF orientation", "turned upright"),
    "animated": Kind("note", "several frames", "the first is used"),
}


@dataclass(frozen=True)
class Fault:
    """One finding.

    Attributes:
        kind: key of `KINDS`.
        problem: what is wrong, naming what it concerns.
        where: the file, line or folder.
        task, id: of the image it concerns, or empty.
        size: bytes of that image; -1 where there is none.
    """

    kind: str
    problem: str
    where: str
    task: str = ""
    id: str = ""
    size: int = -1

    @property
    def severity(self) -> Severity:
        return KINDS[self.kind].severity

    @property
    def drops(self) -> bool:
        """Leaving the image out mends it."""
        return KINDS[self.kind].drops and bool(self.id)

    def to_dict(self) -> dict[str, Any]:
        """With its severity and remedy, JSON-ready."""
        return {**asdict(self), "severity": self.severity, "remedy": KINDS[self.kind].remedy}
