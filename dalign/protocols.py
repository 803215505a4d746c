"""What the released code's choices make of a cell's samples: replicas of its scores, bare judges, grading by substring.

Each lies in the cell's ``protocols/`` under its own name, all or nothing, and the cell's own files are never touched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dalign.cells import Cell
from dalign.drawing import SAMPLES_STEP
from dalign.files import read_json, write_json
from dalign.layout import ADAPTER_POLICIES, PROTOCOLS, PROTOCOLS_ASKED
from dalign.records import Part, Sample, Scores, Verdict, digest
from dalign.scores_file import read_scores, write_scores
from dalign.specs.judge import RERANK, AnyJudge, role_of
from dalign.specs.protocol import CORRECTED, ProtocolSpec, Switch
from dalign.store import run_chunks
from dalign.verdict_file import Progress, VerdictFile

if TYPE_CHECKING:
    from dalign.attribute.released import Replica
    from dalign.judge import Judge

JUDGING: tuple[Switch, ...] = ("bare_judge", "substring")
NO_SCORE = "empty, or longer than the context"


def unscored(cell: Cell) -> dict[str, Replica]:
    """The replicas of scores, by the name of their protocol, that do not cover the cell's samples yet."""
    asked = _replicas(cell.spec.protocol)
    if not asked or cell.name not in ADAPTER_POLICIES or cell.protocol != CORRECTED:
        return {}
    samples = cell.samples()
    return {name: replica for name, replica in asked.items() if not _covers(_scores(cell, name), samples)}


def score(cell: Cell, progress: Progress | None = None) -> None:
    """Reads every replica that is lacking over all samples: in batches of four a score hangs on its neighbours."""
    from dalign.attribute import Pair
    from dalign.attribute.released import released_similarities

    wanted, samples = unscored(cell), cell.samples()
    if not wanted:
        return
    loaded = cell.policy().loaded
    log = cell.stage.chunk_log("protocol_scores", Scores)

    def chunk(rows: Sequence[Sample]) -> list[Scores]:
        pairs = [Pair(s.prompt_ids, s.response_ids) for s in rows]
        found = released_similarities(loaded, pairs, wanted)
        return [Scores(s.id, loaded.base_hash, layered) for s, layered in zip(rows, found, strict=True)]

    size = cell.spec.sampler.chunk * SAMPLES_STEP  # a multiple of four, so that chunks cut no batch in two
    parts = [samples[i : i + size] for i in range(0, len(samples), size)]
    plan = {digest(sorted(wanted), [s.id for s in rows]): partial(chunk, rows) for rows in parts}
    found = run_chunks(log, plan, progress)
    for name in wanted:
        rows = [
            Scores(s.sample_id, s.base_hash, {"similarity": s.layered[name]})
            if name in s.layered
            else Scores(s.sample_id, s.base_hash, error=NO_SCORE)
            for s in found
        ]
        write_scores(_scores(cell, name), cell.prompts, samples, rows, base=loaded.base_words)
    log.remove()


def record(cell: Cell) -> None:
    """Writes down which protocols have been asked for, now or before: one needs no file of its own."""
    protocol, path = cell.spec.protocol, cell.path / PROTOCOLS / PROTOCOLS_ASKED
    if cell.protocol != CORRECTED or not protocol.switches:
        return
    asked = {protocol.cut_name if switch == "cut" else switch for switch in protocol.switches}
    asked |= {protocol.together_name} if protocol.all_together else set()
    before = set(read_json(path)["asked"]) if path.exists() else set()
    if asked - before:
        write_json(path, {"schema": 1, "asked": sorted(before | asked)})


def judges(cell: Cell, switch: Switch) -> dict[str, AnyJudge]:
    """The cell's judges that ``switch`` replaces, by their keys; none where it is not asked for."""
    from dalign.judge.bare import can_be_bare

    if switch not in cell.spec.protocol.switches or cell.protocol != CORRECTED:
        return {}
    if switch == "bare_judge":
        return {key: judge for key, judge in cell.judges.items() if can_be_bare(judge) and role_of(key) != RERANK}
    return {key: judge for key, judge in cell.judges.items() if judge.family == "answers"}


def unjudged(cell: Cell, switch: Switch) -> dict[str, dict[Part, list[Sample]]]:
    """For the key of each judge that ``switch`` replaces, the samples without such a verdict, by part."""
    found: dict[str, dict[Part, list[Sample]]] = {}
    file, asked = _verdicts(cell, switch), judges(cell, switch)
    if asked:
        file.check(asked.values())
        for (key, part), rows in file.lacking(asked, cell.samples()).items():
            found.setdefault(key, {})[part] = rows
    return found


def judge(cell: Cell, switch: Switch, key: str, made: Judge, progress: Progress | None = None) -> None:
    """Has the samples judged that lack a verdict of the judge under ``key`` by ``switch``; ``made`` is that judge."""
    todo = unjudged(cell, switch).get(key)
    if todo:
        log = cell.stage.chunk_log(f"protocol_{switch}_{key}", Verdict)
        _verdicts(cell, switch).add(cell.judges[key], made, todo, cell.prompts, log, progress)


def make(switch: Switch, spec: AnyJudge, cell: Cell) -> Judge:
    """The judge that ``switch`` puts in the place of ``spec``."""
    if switch == "bare_judge":
        from dalign.judge.bare import bare_judge

        return bare_judge(spec, world_seed=cell.spec.world_seed, paths=cell.spec.paths)
    from dalign.judge.base import Screened
    from dalign.judge.substring import SubstringJudge

    return Screened(SubstringJudge(spec.name))


def _replicas(protocol: ProtocolSpec) -> Mapping[str, Replica]:
    from dalign.attribute.released import Replica

    single = {
        "pad_position": ("pad_position", Replica(pad_position=True)),
        "cut": (protocol.cut_name, Replica(cut=protocol.cut_at)),
        "bf16_cosine": ("bf16_cosine", Replica(bf16=True)),
    }
    found = dict(single[switch] for switch in protocol.switches if switch in single)
    if protocol.all_together:
        found[protocol.together_name] = Replica(pad_position=True, cut=protocol.cut_at, bf16=True)
    return found


def _covers(path: Path, samples: Sequence[Sample]) -> bool:
    return path.exists() and len(read_scores(path, samples)) == len(samples)


def _scores(cell: Cell, name: str) -> Path:
    return cell.path / PROTOCOLS / f"{name}.safetensors"


def _verdicts(cell: Cell, switch: Switch) -> VerdictFile:
    return VerdictFile(cell.path / PROTOCOLS / f"{switch}.parquet")
