"""What can be wrong with images on disk, and what is done about it: plain data for layouts and checks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class FaultKind:
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
    "unreadable": FaultKind("error", "not an image", "left out with --fix", drops=True),
    "truncated": FaultKind("error", "truncated or damaged image", "left out with --fix", drops=True),
    "zero_bytes": FaultKind("error", "file of zero bytes", "left out with --fix", drops=True),
    "too_large": FaultKind("error", "image of too many pixels or passes", "left out with --fix", drops=True),
    "missing_file": FaultKind(
        "error", "listed, but not there", "the line is left out with --fix", drops=True
    ),
    "outside": FaultKind(
        "error",
        "link to a file outside of the root",
        "left out with --fix; allowed with dataset.links: anywhere",
        drops=True,
    ),
    "bad_name": FaultKind(
        "error",
        "name that no record can hold",
        "rename it; names that are not UTF-8 with, for example: convmv -r --notest -f latin1 -t utf8 ROOT",
    ),
    "bad_line": FaultKind("error", "line of a split list that cannot be read", "correct the list"),
    "swapped_lists": FaultKind("error", "split list of something else", "put the right list in its place"),
    "listed_twice": FaultKind("error", "image listed twice", "keep one of the lines"),
    "label_conflict": FaultKind(
        "error", "class and label do not go together", "put the published lists back"
    ),
    "fixed_lists": FaultKind("error", "fixed lists that a study refuses", "correct them"),
    "missing_class": FaultKind(
        "error", "class missing in a task", "add it, or name the others in dataset.classes"
    ),
    "unknown_class": FaultKind("error", "folder not named after a class", "remove or rename it"),
    "empty_class": FaultKind("error", "class without images", "add images or remove the folder"),
    "long_name": FaultKind(
        "error", "class whose prompt is longer than the text tower takes", "set dataset.class_names"
    ),
    "same_class": FaultKind("error", "two folders of one class", "merge or rename them"),
    "no_test": FaultKind("error", "task whose shots leave nothing to test", "use fewer shots or add images"),
    "other_format": FaultKind("warning", "file in a format that is not read", "left out"),
    "broken_link": FaultKind("warning", "link that leads nowhere", "left out"),
    "nested": FaultKind("warning", "folder within a class", "what is in it is left out"),
    "stray": FaultKind("warning", "image outside of the class folders", "left out"),
    "class_set": FaultKind(
        "warning", "class that other tasks do not have", "tasks keep their own class lists"
    ),
    "class_name": FaultKind(
        "warning", "class named differently in tasks", "rename, or set dataset.class_names"
    ),
    "portable": FaultKind(
        "warning", "name that other systems change", "rename it, or copies get other draws and keys"
    ),
    "too_few": FaultKind("warning", "too few images for the shots", "the draw takes what it can"),
    "duplicate": FaultKind("warning", "same bytes twice in a class", "--fix keeps the first", drops=True),
    "duplicate_label": FaultKind(
        "warning", "same bytes under two classes of a task", "--fix leaves both out", drops=True
    ),
    "duplicate_split": FaultKind(
        "warning", "same bytes in training and test", "--fix leaves the training image out", drops=True
    ),
    "duplicate_task": FaultKind("warning", "same bytes in two tasks", "--fix keeps the first", drops=True),
    "by_content": FaultKind("note", "image known by its content alone", "read as what it is"),
    "not_image": FaultKind("note", "file that is not an image", "left out"),
    "cmyk": FaultKind("note", "CMYK colours", "converted to RGB"),
    "palette": FaultKind("note", "palette colours", "converted to RGB"),
    "grey": FaultKind("note", "no colour", "the grey stands in all three channels"),
    "alpha": FaultKind("note", "transparency", "dropped"),
    "deep": FaultKind("note", "16 or 32 bits per channel", "scaled to 8 bits"),
    "rotated": FaultKind("note", "EXIF orientation", "turned upright"),
    "animated": FaultKind("note", "several frames", "the first is used"),
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
