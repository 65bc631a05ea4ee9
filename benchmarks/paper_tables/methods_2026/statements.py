"""What all CLIPs say together: a statement holds, or is reversed, only where they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stages import Stage
from tables import Scores
from unseen import unseen

from orchestrator.compare.comparison import Comparison
from orchestrator.reports.comparison.claims import GROUPS, NEWER, Claim, claims

WORDS = {"holds": "Holds", "reversed": "Reversed"}
OPEN = "Cannot be told"

FEWEST = 2
"""CLIPs that a statement needs at least."""


@dataclass(frozen=True)
class Statement:
    """A claim on each CLIP that has it.

    Attributes:
        text: what would hold.
        kind: of the stages that tested it.
        by_clip: the claims by the CLIP's name.
    """

    text: str
    kind: str
    by_clip: Mapping[str, Claim]

    def measured(self) -> int:
        """CLIPs with a number."""
        return sum(claim.difference is not None for claim in self.by_clip.values())

    def word(self, clips: Sequence[str]) -> str:
        """What is said of it."""
        verdicts = {claim.verdict for claim in self.by_clip.values()}
        if len(verdicts) != 1 or len(clips) < FEWEST or self.by_clip.keys() != {*clips}:
            return OPEN
        return WORDS.get(verdicts.pop(), OPEN)

    def __str__(self) -> str:
        numbers = "; ".join(f"{clip} {_interval(claim)}" for clip, claim in self.by_clip.items())
        return f"- {self.text}: {numbers}"


def statements(
    found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores], clips: Sequence[str]
) -> Iterator[str]:
    """The paragraphs of all statements.

    Args:
        found: what was compared.
        scored: on new classes or a task left out.
        clips: all that have to agree.
    """
    made = _strongest(_tested(found, scored))
    yield "## What the CLIPs say together"
    yield (
        f"CLIPs: {', '.join(clips)}. Differences in points of test accuracy, mean over tasks, paired by "
        "seed, with 95 % t-intervals. A side whose best rate lies at an end of all that it could try has no "
        "number, and a side some of whose starts failed wins nothing. "
        f"{len(made)} statements are tested, each by itself: where nothing differs, one in twenty intervals "
        "leaves zero out, and the CLIPs share their draws and test images, so that their agreement is less "
        "than independent."
    )
    for word in (*WORDS.values(), OPEN):
        lines = [str(one) for one in made if one.word(clips) == word]
        yield f"**{word}** ({len(lines)})"
        if lines:
            yield "\n".join(lines)


def _tested(found: Mapping[Stage, Comparison], scored: Mapping[Stage, Scores]) -> list[Statement]:
    """Statements as each kind of stage tests them."""
    by_text: dict[tuple[str, str], dict[str, Claim]] = {}
    for stage, comparison in found.items():
        if stage.kind not in ("tuned", "grouped"):
            continue
        for claim in claims(comparison):
            if claim.topic in (NEWER, GROUPS) or stage.kind == "grouped":
                by_text.setdefault((claim.statement, stage.kind), {})[stage.clip] = claim
    for stage, claim in unseen(found, scored):
        by_text.setdefault((claim.statement, stage.kind), {})[stage.clip] = claim
    return [Statement(text, kind, by_clip) for (text, kind), by_clip in by_text.items()]


def _strongest(tested: list[Statement]) -> list[Statement]:
    """Each statement once: where most CLIPs have a number, and with the more seeds."""
    best: dict[str, Statement] = {}
    for one in tested:  # tuned before grouped, which has more seeds
        if one.text not in best or one.measured() >= best[one.text].measured():
            best[one.text] = one
    return [*best.values()]


def _interval(claim: Claim) -> str:
    difference = claim.difference
    notes = f" [{'; '.join(claim.notes)}]" if claim.notes else ""
    if difference is None:
        return f"no number{notes}"
    text = f"{100 * difference.mean:+.1f}"
    if difference.low is None or difference.high is None:
        return f"{text}{notes}"
    return f"{text} ({100 * difference.low:+.1f} to {100 * difference.high:+.1f}, n = {difference.n}){notes}"
