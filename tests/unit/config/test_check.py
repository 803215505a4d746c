"""The start-up check: every kind of fault, its message, all of them at once; and what passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dalign.config import check
from dalign.errors import ConfigError
from dalign.specs.stage import ControlStage


def problems(verb: str, *argv: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        check(verb, argv)  # type: ignore[arg-type]
    return caught.value.problems


def test_the_default_evaluation_is_the_embedded_world() -> None:
    (spec,) = check("evaluate", [])
    assert (spec.run, spec.model.id, spec.stage) == ("toy", "toy", None)
    assert all(benchmark.format == "toy" for benchmark in spec.benchmark.values())


def test_a_model_brings_its_own_numbers_and_the_paper_has_the_rest() -> None:
    (toy,) = check("train", ["stage=distill"])
    (other,) = check("train", ["stage=distill", "model=hf", "model.id=some/model"])
    assert toy.stage is not None
    assert other.stage is not None
    assert (toy.stage.batch, toy.sampler.max_new_tokens) == (32, 128)  # type: ignore[union-attr]
    assert (other.stage.lr, other.stage.batch, other.sampler.max_new_tokens) == (1.41e-5, 16, 2048)  # type: ignore[union-attr]


def test_fields_that_a_yaml_leaves_out_can_be_set() -> None:
    (spec,) = check("evaluate", ["model.base=some/model", "benchmark.toy_dan.row_id=x"])
    assert (spec.model.base, spec.benchmark["toy_dan"].row_id) == ("some/model", "x")


def test_a_number_is_text_where_text_is_wanted() -> None:
    (spec,) = check("evaluate", ["run=007", "model.revision=1e5"])
    assert (spec.run, spec.model.revision) == ("007", "1e5")


def test_missing_quotes_are_put_around_a_value_with_an_equals_sign() -> None:
    (spec,) = check("evaluate", ["run=a/model.lora.r=8,seed=1"])
    assert spec.run == "a/model.lora.r=8,seed=1"


def test_a_list_of_benchmarks_replaces_the_list() -> None:
    (spec,) = check("evaluate", ["benchmark=[toy_dan,toy_mmlu]", "policies=[base]", "limit=3"])
    assert (list(spec.benchmark), spec.policies, spec.limit) == (["toy_dan", "toy_mmlu"], ("base",), 3)


def test_a_judge_is_chosen_by_role() -> None:
    (spec,) = check("evaluate", ["judge@judges.refusal=phrases", "~judge@judges.harm_truth"])
    assert spec.judges["refusal"].kind == "phrases"
    assert "harm_truth" not in spec.judges


# Each command line holds faults that do not meet, so that one composition shows many; every fault has its one problem.
EVALUATIONS: dict[str, dict[str, str]] = {
    "entries": {
        "model=toi": "model=toi: the group 'model' has no entry 'toi'; did you mean 'toy'?",
        "teacher=null": "teacher=null: a group cannot be null; name an entry",
        "benchmark=[toy_dan,toy_don]": "has no entry 'toy_don'; did you mean 'toy_dan'?",
        "sampler/engine=replay": "sampler.engine.path is not set (???): give sampler.engine.path=VALUE",
    },
    "values": {
        "model.lora.r=eight": "model.lora.r=eight: a whole number is expected",
        "model.lora.alpha=0": "model.lora.alpha=0: must be greater than 0",
        "model.lora.dropout=true": "model.lora.dropout=true: a number is expected",
        "model.lora.rr=8": "model.lora.rr=8: unknown key 'rr'; did you mean 'r'?",
        "model.lora.targets=linear": "a list is expected, as in model.lora.targets=[a,b], or",
        "teacher.system=nome": "teacher.system=nome: did you mean 'none'?",
        "model.dtype=bfloat61": "model.dtype=bfloat61: did you mean 'bfloat16'?",
        "model.think.close=<think>": "think.open and think.close must be two different",
        "modle.lora.r=8": "unknown key 'modle'; did you mean 'model'?",
        "+sampler.zzz=1": "sampler.zzz=1: unknown key 'zzz'",
        "policies=distill": "policies=distill: a list is expected, as in policies=[a,b]",
        "run=../up": "run=../up: letters, digits and ._=,+- are allowed",
        "teacher.name=${oc.env:HOME}": "would write the variable's value into saved configurations",
        "dataset.name=${nowhere}": "dataset.name=${nowhere}: cannot be resolved",
    },
    "nodes": {
        "model.lora=5": "model.lora=5: a node stands here, not a value",
        "sampler.engine=replay": "a node stands here, not a value; choose an entry by sampler/engine=NAME",
        "+benchmark.mine.path=x": "benchmark.mine holds only path and has no _target_: choose an entry by benchm",
        "teacher._target_=os.system": "teacher._target_=os.system: only classes within dalign. may be named here",
        "selector._target_=dalign.specs.sampling.SelektorSpec": "did you mean 'dalign.specs.sampling.SelectorSpec'?",
    },
    "grammar": {
        "seed=0,1": "seed=0,1: several values are a sweep, which needs -m",
        "x=[1": "x=[1: not readable as key=value",
        "=1": "=1: not readable as key=value (the key is missing)",
        "": "'': not readable as key=value (an empty word)",
        "benchmark=[]": "benchmark=[]: the list is empty; name at least one of",
        "judge@judges.harmm=phrases": "Did you mean to override one of",
        "policies=[]": "policies=[]: the list is empty",
    },
    "needs": {
        "model.id=nowhere/a/folder": "model.id=nowhere/a/folder: no such file or folder",
        "trainer.devices=2": "trainer.devices=2: this runs on one device; give trainer.devices=1, or trainer=cpu|gpu",
        "teacher.id=toy:guard": "teacher.id=toy:guard: no such file or folder",
        "model.base=nowhere.gguf": "model.base=nowhere.gguf: no such file or folder",
        "inputs.traces=nowhere.jsonl": "inputs.traces=nowhere.jsonl: no such file",
        "inputs.adapter=runs/nowhere/distill/adapter": "no such folder; mend it, or give HUB_ID@REVISION",
        "benchmark.toy_mmlu.format=mmlu": "benchmark.toy_mmlu: has neither a path nor a hub id",
        "policies=[base,distil]": "there is no policy 'distil'; did you mean 'distill'?",
        "selector.score=similarty": "attribution does not compute it; did you mean 'similarity'?",
        "~judge@judges.refusal": "benchmark.toy_xstest: asks for a judge of refusal, and there is none",
        "+judge@judges.harn_second=phrases": "judges.harn_second: begins with no role",
        "stage=distill": "stage=distill: an evaluation has no stage",
    },
    "several traces": {"inputs.traces=[mine.jsonl,conf]": "inputs.traces=mine.jsonl: no such file"},
    "traces twice": {"inputs.traces=[conf,conf]": "]: names no file, or one twice"},
    "selector": {"selector=kl": "", "selector.layer=3": "selector.layer=3: the score 'kl' has no layers"},
    "layers": {
        "attribution.layers=[1,3]": "",
        "selector.layer=2": "selector.layer=2 is none of attribution.layers=[1, 3]",
    },
    "band": {
        "attribution.layers=[1,3]": "",
        "selector.layer=[1,3]": "selector.layer=[1, 3]: [2] is none of attribution.layers=[1, 3]",
    },
    "band of a flat score": {"selector=kl": "", "selector.layer=[1,3]": "selector.layer=[1, 3]: the score 'kl' has no"},
    "resampling": {"selector.score=until_safe": "no judge says when a sample will do; give +judge@judges.rerank"},
    "reranking": {
        "+judge@judges.rerank=toy_truth": "which knows what no selector may know (report_only); name another",
        "judges.rerank.name=peek": "",
        "+judge@judges.rerank_b=phrases": "judges.rerank_b is phrases, which finds no harm, and by which no sample",
        "+judge@judges.rerank_c=toy_guard": "judges.rerank_c is named toy_guard, as judges.harm is",
        "+judge@judges.harm_own=toy_self": "chooses among samples and reports nothing; name it judges.rerank",
        "selector.score=rerank:pek": "selector.score=rerank:pek: no judge gives it; did you mean 'rerank:peek'?",
    },
    "protocol": {
        "protocol.switches=[pad,cut]": "protocol.switches.0=pad: known: bare_judge, bf16_cosine, cut, pad_position",
        "protocol.cut_at=0": "protocol.cut_at=0: must be greater than 0",
        "protocol.prefill=true": "",
        "benchmark=[toy_dan]": "protocol.prefill: none of the benchmarks has words to begin the answer with",
    },
    "switches": {
        "protocol=released_code": "protocol.switches: pad_position, cut, bf16_cosine are about the similarity",
        "attribution.layered=[]": "",
        "selector=kl": "",
    },
    "attribution": {"selector=kl": "selector.score=kl: attribution does not compute it", "attribution=similarity": ""},
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_each_fault_is_told_once_with_key_value_and_remedy(name: str) -> None:
    cases = EVALUATIONS[name]
    found = problems("evaluate", *cases)
    wanted = [told for told in cases.values() if told]
    for told in wanted:
        assert sum(told in text for text in found) == 1, (told, found)
    assert len(found) == len(wanted), found


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ([], ["stage is not set: give one of stage=control, stage=distill"]),
        (["stage=distil"], ["the group 'stage' has no entry 'distil'; did you mean 'distill'?"]),
        (["stage.lr=1"], ["stage holds only lr and has no _target_: choose an entry by stage=NAME"]),
        (["stage=distill", "stage.filter=1"], ["unknown key 'filter'"]),
        (
            ["stage=traces", "judge@judges.harm=toy_truth", "teacher=ready_made"],
            ["dataset=toy: has no ready-made traces"],
        ),
        (
            ["stage=traces", "judge@judges.harm=toy_truth", "teacher.id=null", "dataset=local"],
            [
                "dataset.path is not set (???)",
                "teacher.id is not set",
                "judges.harm is toy_truth, which knows what no filter may",
            ],
        ),
        (
            ["stage=probe", "stage.judge=harm_truth", "stage.policy=base", "benchmark=[toy_mmlu]"],
            [
                "stage.judge is toy_truth, which knows what no probe",
                "stage.policy=base: not a policy with",
                "none asks for a harm judge",
            ],
        ),
        (["stage=probe", "stage.judge=refusal"], ["stage.judge is toy_refusal, which finds no harm; a probe needs a"]),
        (["stage=probe", "stage.judge=harmm"], ["stage.judge=harmm: no such key of judges; did you mean 'harm'?"]),
        (
            ["stage=probe", "stage.labels=nowhere", "stage.judge=none", "benchmark=[toy_mmlu]"],
            ["stage.labels=nowhere: no such file; give a JSONL file of labelled answers"],
        ),
        (["stage=probe", "stage.methods=[logistik]"], ["stage.methods.0=logistik: "]),
        (
            ["stage=probe", "stage.methods=[refusal_direction]", "dataset=star1", "paths.data=nowhere"],
            ["dataset.path=star1/STAR-1.json: no such file"],
        ),
        (
            ["stage=control", "stage.judge=harm_truth", "stage.policy=base", "stage.unrelated=no/such/folder"],
            [
                "stage.unrelated=no/such/folder: no such file or folder",
                "stage.policy=base: not a policy with",
                "stage.judge is toy_truth, which knows what no control may",
            ],
        ),
        (["stage=control", "stage.judge=harmm"], ["stage.judge=harmm: no such key of judges; did you mean 'harm'?"]),
        (
            ["stage=control", "stage.controls=[unrelated]"],
            ["stage.unrelated is not set, and stage.controls=[unrelated]"],
        ),
        (["stage=control", "stage.controls=[random]"], ["stage.controls.0=random: "]),
        (["stage=control", "stage.closing=0"], ["stage.closing=0: "]),
    ],
)
def test_a_stage_tells_what_it_lacks(overrides: list[str], wanted: list[str]) -> None:
    found = problems("train", *overrides)
    assert len(found) == len(wanted), found
    assert all(told in text for told, text in zip(wanted, found, strict=True)), found


def test_a_probe_of_a_set_can_be_the_headline_and_another_name_is_told() -> None:
    (spec,) = check("evaluate", ["selector.score=probe:class_means-difference-mean", "selector.layer=2"])
    assert spec.selector.score == "probe:class_means-difference-mean"
    (spec,) = check("evaluate", ["selector=refusal_direction", "selector.layer=2"])
    assert (spec.selector.score, spec.selector.direction) == ("refusal_direction:student-content", "argmax")
    (fault,) = problems("evaluate", "selector.score=probe:class_means-difference")
    assert fault.startswith("selector.score=probe:class_means-difference: attribution does not compute it")


def test_a_control_that_needs_no_label_asks_for_no_judge() -> None:
    words = ["stage=control", "stage.controls=[random_lora,same_closing]"]
    (spec,) = check("train", [*words, "stage.judge=none", "benchmark=[toy_mmlu]", "stage.closing=sentence"])
    assert isinstance(spec.stage, ControlStage)
    assert spec.stage.asked == ("random_lora", "same_closing")
    assert (spec.stage.closing, spec.stage.sentence) == ("sentence", "a wish for you .")
    (other,) = check("train", ["stage=control", "stage.unrelated=owner/name@abc"])
    assert isinstance(other.stage, ControlStage)
    assert other.stage.asked == ("random_lora", "unrelated", "closings", "same_closing")
    assert (other.stage.closing, "unrelated" in other.stage.results()) == (4, False)


def test_a_folder_from_before_there_were_sets_goes_on() -> None:
    (spec,) = check("train", ["stage=probe"])
    assert spec.stage is not None
    assert spec.stage.results() == {
        "name": "probe", "policy": "distill", "judge": "harm", "folds": 5, "l2": 0.01, "steps": 200
    }  # fmt: skip
    (other,) = check("train", ["stage=probe", "stage.methods=[conditional]", "stage.leave_out=false"])
    assert other.stage is not None
    added = {k: v for k, v in other.stage.results().items() if k not in spec.stage.results()}
    assert added == {"methods": ["conditional"], "leave_out": False}


def test_a_policy_that_there_is_none_of_is_told_with_those_there_are() -> None:
    found = problems("evaluate", "policies=[grpo,nobody,distil]")
    assert found == (
        "policies: there is no policy 'nobody'; known: base, distill, grpo, teacher",
        "policies: there is no policy 'distil'; did you mean 'distill'? (known: base, teacher, distill, grpo)",
    )


def test_all_faults_are_told_at_once_of_every_kind() -> None:
    found = problems(
        "evaluate",
        "model=toi",
        "model.lora.r=eight",
        "seed=-1",
        "benchmark.toy_dan.kidn=harmful",
        "inputs.probe=nowhere",
    )
    begins = [text.partition(":")[0] for text in found]
    assert begins == [
        "model=toi",
        "seed=-1",
        "model.lora.r=eight",
        "benchmark.toy_dan.kidn=harmful",
        "inputs.probe=nowhere",
    ]


def test_every_faulty_place_of_a_list_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        check("evaluate", ["attribution.layers=[base,1,base]"])
    assert [text.split("=")[0] for text in caught.value.problems] == ["attribution.layers.0", "attribution.layers.2"]
    with pytest.raises(ConfigError) as caught:  # that no good layer is left only follows
        check("evaluate", ["attribution.layers=[base,base]"])
    assert [text.split("=")[0] for text in caught.value.problems] == ["attribution.layers.0", "attribution.layers.1"]


def test_what_follows_from_a_fault_is_not_told_beside_it() -> None:
    assert len(problems("train", "stage=distil", "stage.lr=1e-4")) == 1


def test_an_unset_value_does_not_hide_a_missing_file() -> None:
    found = problems("evaluate", "model=hf", "inputs.traces=nowhere.jsonl")
    assert [text.split(" ")[0] for text in found] == ["model.id", "inputs.traces=nowhere.jsonl:"]


def test_a_missing_benchmark_file_is_told_and_a_present_one_found_below_paths_data(tmp_path: Path) -> None:
    argv = [
        "benchmark=[strongreject]",
        "judge@judges.harm=phrases",
        "~judge@judges.harm_truth",
        f"paths.data={tmp_path}",
    ]
    (only,) = problems("evaluate", *argv)
    assert only.startswith("benchmark.strongreject.path=strongreject/strongreject_dataset.csv: no such file")
    file = tmp_path / "strongreject" / "strongreject_dataset.csv"
    file.parent.mkdir()
    file.touch()
    assert check("evaluate", argv)[0].benchmark["strongreject"].expected_rows == 313


def test_two_judges_do_not_share_a_name() -> None:
    twice = ["+judge@judges.harm_b=toy_guard"]
    assert check("evaluate", twice)
    with pytest.raises(ConfigError, match=r"judges.harm_b and judges.harm are both named toy_guard and differ"):
        check("evaluate", [*twice, "judges.harm_b.threshold=0.99"])
    assert check("evaluate", [*twice, "judges.harm_b.threshold=0.99", "judges.harm_b.name=strict"])


def test_a_composite_reads_judges_of_harm_of_its_role_and_parts() -> None:
    both = ["+judge@judges.harm_both=any", "judges.harm_both.of=[harm,harm_truth]"]
    assert check("evaluate", [*both, "judges.harm_both.report_only=true"])
    wrong = {
        "[harm,harmm]": "there is no judges.harmm; did you mean 'harm'?",
        "[harm,harm]": "names one twice",
        "[harm,harm_both]": "judges.harm_both is itself a composite",
        "[harm,refusal]": "judges.refusal is toy_refusal, which finds no harm",
        "[harm,answers_b]": "judges.answers_b has another role than judges.harm_both; name it judges.harm_WORD",
        "[harm,harm_truth]": "is for reports alone; give judges.harm_both.report_only=true",
    }
    base = [both[0], "+judge@judges.answers_b=toy_guard", "judges.answers_b.name=b"]
    for of, message in wrong.items():
        assert any(message in text for text in problems("evaluate", *base, f"judges.harm_both.of={of}")), of
    parts = [*both, "judges.harm_both.report_only=true", "judges.harm_both.parts=[answer,reasoning]"]
    assert any("does not judge the reasoning" in text for text in problems("evaluate", *parts))


def test_a_guards_template_is_there_before_anything_is_loaded(tmp_path: Path) -> None:
    line = ["judge@judges.harm=wildguard", f"judges.harm.template={tmp_path / 'none.txt'}"]
    assert any("none.txt: no such file" in text for text in problems("evaluate", *line))
    (tmp_path / "none.txt").touch()
    assert check("evaluate", line)


def test_an_endpoints_key_is_there_and_its_address_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["judge@judges.harm=server", "judges.harm.endpoint.model=m"]
    assert any("judges.harm.endpoint.url is not set" in text for text in problems("evaluate", *line))
    assert any(
        "judges.harm.endpoint.url=localhost" in t
        for t in problems("evaluate", *line, "judges.harm.endpoint.url=localhost")
    )
    line += ["judges.harm.endpoint.url=http://localhost/v1", "judges.harm.endpoint.key_env=DALIGN_TEST_KEY"]
    assert any("that environment variable is not set" in text for text in problems("evaluate", *line))
    monkeypatch.setenv("DALIGN_TEST_KEY", "very secret")
    (spec,) = check("evaluate", line)
    assert "very secret" not in spec.model_dump_json()


def test_an_endpoints_tokenizer_is_a_folder_or_may_be_on_the_hub(tmp_path: Path) -> None:
    line = ["judge@judges.harm=server", "judges.harm.endpoint.model=m", "judges.harm.endpoint.url=http://localhost/v1"]
    (told,) = problems("evaluate", *line, f"judges.harm.tokenizer={tmp_path / 'none'}")
    assert told.startswith(f"judges.harm.tokenizer={tmp_path / 'none'}: no such folder; mend it, or give HUB_ID@")
    for name in (str(tmp_path), "some/model", "some/model@v1"):
        (spec,) = check("evaluate", [*line, f"judges.harm.tokenizer={name}"])
        assert "tokenizer" not in spec.judges["harm"].results(), "it changes no verdict"


def test_the_worlds_judges_do_not_judge_other_prompts(tmp_path: Path) -> None:
    (tmp_path / "x.csv").touch()
    found = problems("evaluate", "benchmark=[strongreject]", f"benchmark.strongreject.path={tmp_path / 'x.csv'}")
    assert [text.partition(" knows")[0] for text in found] == [
        "benchmark.strongreject: judges.harm=toy_guard",
        "benchmark.strongreject: judges.harm_truth=toy_truth",
    ]


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    (only,) = problems("evaluate", f"model.id={tmp_path}")
    assert "the folder has no config.json" in only
    (tmp_path / "config.json").touch()
    assert check("evaluate", [f"model.id={tmp_path}"])[0].model.id == str(tmp_path)


def test_users_add_entries_by_a_folder_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "benchmark").mkdir()
    text = "# @package benchmark.mine\n_target_: dalign.specs.data.BenchmarkSpec\nname: mine\nformat: toy\nkind: math\n"
    (tmp_path / "benchmark" / "mine.yaml").write_text(text + "roles: [answers]\n")
    (spec,) = check("evaluate", [f"--config-dir={tmp_path}", "benchmark=[mine]"])
    assert list(spec.benchmark) == ["mine"]


def test_options_that_execute_or_replace_are_refused() -> None:
    for option in ("--experimental-rerun=x.pickle", "--config-path=elsewhere", "--config-dir=nowhere"):
        (only,) = problems("evaluate", option)
        assert only.startswith(option.partition("=")[0])


def test_no_heavy_package_is_imported() -> None:
    code = (
        "import sys, dalign.cli\nfrom dalign.config import check\ncheck('train', ['stage=traces'])\n"
        "print(sorted({'torch', 'transformers', 'lightning', 'peft', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
