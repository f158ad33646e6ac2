"""What may stand in one table, what is left out, and what is missing."""

from dataclasses import replace

from mgx.select.boards import Board, gather
from mgx.select.coverage import coverage, together
from mgx.shared.records import Run, RunRecord, Sweep
from tests.select.conftest import ALL, baseline_records, make_record, sweep_records


def nowhere(dataset: str, perceptor: str, modality: str) -> None:
    """No store at hand."""


def boards_of(*records: RunRecord) -> tuple[Board, ...]:
    return gather(list(records), [], nowhere, {}).boards


def re_extracted(record: RunRecord, key: str = "newer") -> RunRecord:
    return replace(record, run=replace(record.run, inputs={**record.run.inputs, "image": key}))


def test_budgets_and_modalities_are_never_mixed() -> None:
    usual = sweep_records("erm", 0.5)
    short = sweep_records("erm", 0.3, steps=50)
    fewer = sweep_records("erm", 0.4, ("image", "depth"))
    found = boards_of(*usual, *short, *fewer)
    assert [(b.steps, sorted(b.modalities)) for b in found] == [
        (50, ["depth", "image", "text"]),
        (301, ["depth", "image"]),
        (301, ["depth", "image", "text"]),
    ]
    assert [len(b.records) for b in found] == [len(short), len(fewer), len(usual)]


def test_baselines_stand_on_every_board_of_their_place() -> None:
    found = boards_of(*sweep_records("erm", 0.5), *sweep_records("erm", 0.5, steps=50), *baseline_records())
    assert [sorted(b.baselines) for b in found] == [["probe", "zeroshot"]] * 2


def test_a_board_takes_the_baselines_of_its_own_modalities() -> None:
    """A baseline that lists more stores than it read stands where all of them do."""

    def zero_shot(modalities: tuple[str, ...], value: float) -> RunRecord:
        kept = {"algorithm": "zeroshot", "kind": "baseline", "steps": 1, "train": (), "modalities": modalities}
        return make_record(("depth",), {0: {"depth/test": value}}, **kept)

    two, three = ("image", "depth"), ("image", "depth", "text")
    records = [*sweep_records("erm", 0.5, two), *sweep_records("erm", 0.5, three)]
    found = boards_of(*records, zero_shot(two, 0.2), zero_shot(three, 0.3))
    shown = {len(b.modalities): b.baselines["zeroshot"] for b in found}
    assert {n: [r.checkpoints[0].scores["depth/test"].accuracy for r in rs] for n, rs in shown.items()} == {
        2: [0.2],
        3: [0.3],
    }


def reading_baselines(modalities: tuple[str, ...], tests: tuple[str, ...] = (), **run: object) -> list[RunRecord]:
    """Baselines trained on all of `modalities` but the test one, as `linear` is."""
    kept = {"algorithm": "linear", "kind": "baseline", "steps": 1, "hyper": {}, "modalities": modalities, **run}
    return [make_record((t,), {0: {f"{t}/test": 0.5}}, **kept) for t in tests or modalities]


def test_a_baseline_that_read_fewer_modalities_stands_on_their_board_alone() -> None:
    two, three = ("image", "depth"), ("image", "depth", "text")
    learners = [*sweep_records("erm", 0.5, two), *sweep_records("erm", 0.5, three)]
    found = boards_of(*learners, *reading_baselines(two), *baseline_records())
    names = {len(b.modalities): sorted(b.baselines) for b in found}
    assert names == {2: ["linear", "probe", "zeroshot"], 3: ["probe", "zeroshot"]}
    found = boards_of(*learners, *reading_baselines(two), *reading_baselines(three))
    trained = {len(b.modalities): {len(r.run.train) for r in b.baselines["linear"]} for b in found}
    assert trained == {2: {1}, 3: {2}}


def test_a_baseline_without_a_board_is_told() -> None:
    found = gather([*sweep_records("erm", 0.5), *reading_baselines(("image", "depth"))], [], nowhere, {})
    assert found.left_out == (
        "toys/tiny linear: trained on other modalities than any learner beside it, left out: 2 records",
    )


def test_baselines_alone_make_a_board_for_each_set_that_they_read() -> None:
    found = boards_of(*baseline_records(), *reading_baselines(ALL), *reading_baselines(("image", "depth")))
    assert [(sorted(b.modalities), sorted(b.baselines)) for b in found] == [
        (["depth", "image"], ["linear", "probe", "zeroshot"]),
        (["depth", "image", "text"], ["linear", "probe", "zeroshot"]),
    ]
    (board,) = boards_of(*baseline_records(("depth",)), *reading_baselines(ALL, ("depth",)))
    assert (sorted(board.modalities), board.tests) == (["depth", "image", "text"], ("depth",))


def test_a_baseline_run_that_was_asked_for_is_missed() -> None:
    probes = [r for r in baseline_records() if r.run.algorithm == "probe"]
    learned, asked = sweep_records("erm", 0.5), [r.run for r in probes]
    (board,) = gather([*learned, *probes[:-1]], asked, nowhere, {}).boards
    assert len(board.asked["probe"]) == len(probes)


def test_runs_made_again_after_a_store_was_added_replace_the_earlier_ones() -> None:
    one = sweep_records("erm", 0.5)
    again = [replace(r, run=replace(r.run, inputs={**r.run.inputs, "prompt": "key"})) for r in one]
    found = gather([*one, *again], [], nowhere, {})
    assert [len(b.records) for b in found.boards] == [len(again)]
    assert found.left_out == (
        f"toys/tiny erm: made before embeddings were added, and made again since, left out: {len(one)} records",
    )


def test_baselines_alone_make_a_board() -> None:
    (board,) = boards_of(*baseline_records())
    assert (board.steps, sorted(board.tests)) == (0, ["depth", "image", "text"])


def test_modalities_stand_in_the_order_of_the_manifest() -> None:
    records = sweep_records("erm", 0.5)
    (board,) = gather(records, [], nowhere, {"toys": ("text", "image", "depth")}).boards
    assert board.tests == ("text", "image", "depth")


def test_without_a_manifest_the_order_is_that_of_the_perceptor_s_own_runs() -> None:
    """Another perceptor's runs, or a filter that leaves them out, must not turn columns around."""
    others, own = sweep_records("erm", 0.5, ("text", "image"), perceptor="first"), sweep_records("erm", 0.5)
    orders = [{b.perceptor: b.tests for b in boards_of(*records)}["tiny"] for records in (own, [*others, *own])]
    assert orders == [("image", "depth", "text")] * 2


def test_records_of_other_embeddings_are_left_out_and_counted() -> None:
    old = sweep_records("erm", 0.5, trials=2)
    new = [re_extracted(r) for r in sweep_records("erm", 0.6, trials=1)]
    found = gather([*old, *new], [], lambda d, p, m: "newer" if m == "image" else None, {})
    assert [len(b.records) for b in found.boards] == [len(new)]
    assert found.left_out == (
        f"toys/tiny: from other embeddings of image than those at hand, left out: {len(old)} records",
    )


def test_embeddings_that_cannot_be_told_apart_are_refused() -> None:
    old, new = make_record(), re_extracted(make_record())
    found = gather([old, new], [], nowhere, {})
    assert found.boards == ()
    assert found.left_out[0].startswith("toys/tiny: from 2 different embeddings of image, none of them at hand")
    assert found.left_out[0].endswith("left out: 2 records")


def test_old_records_are_used_while_there_are_no_others() -> None:
    found = gather([make_record()], [], lambda d, p, m: "another", {})
    assert (len(found.boards), found.left_out) == (1, ())


def test_two_settings_under_the_same_seeds_are_refused() -> None:
    one = sweep_records("erm", 0.5)
    other = [replace(r, run=replace(r.run, hyper={**r.run.hyper, "lr": 0.5})) for r in one[:1]]
    found = gather([*one, *other, *sweep_records("concat", 0.5)], [], nowhere, {})
    assert [list(b.algorithms) for b in found.boards] == [["concat"]]
    (line,) = found.left_out
    assert "toys/tiny erm: run with the same seeds but different lr (0.001, 0.5)" in line
    assert line.endswith(f"left out: {len(one) + 1} records")


def sweep(command: str, runs: list[Run]) -> Sweep:
    return Sweep(command, tuple(runs))


def test_coverage_counts_runs_and_names_the_command() -> None:
    records = sweep_records("erm", 0.5, trials=1, hparams=1)
    runs = [r.run for r in records]
    gone = {runs[0].key, runs[4].key}
    done = {r.run.key: r for r in records if r.run.key not in gone}
    done[runs[1].key] = replace(records[1], status="diverged")
    (line,) = coverage(runs, [sweep("mgx learn --algo erm", runs)], done)
    assert (line.singles.expected, line.singles.finished, line.singles.diverged, line.singles.missing) == (3, 1, 1, 1)
    assert (line.pairs.expected, line.pairs.missing, line.missing) == (3, 1, 2)
    assert line.commands == ("mgx learn --algo erm",)
    assert line.sentence() == (
        "toys/tiny erm: 2 of 3 reported runs, 2 of 3 leave-one-out runs, 1 diverged "
        "(depth 1 of 1, 1 diverged; image 0 of 1; image+text 0 of 1)"
    )


def test_coverage_says_which_cells_lack_runs() -> None:
    """No sweep asked for anything: the seeds of the other modalities say what image lacks."""
    records = [r for r in sweep_records("erm", 0.5) if r.run.test != ("image",) or r.run.trial_seed == 0]
    records = [r for r in records if r.run.test != ("image", "depth") or r.run.hparams_seed == 0]
    gathered = gather(records, [], nowhere, {})
    (line,) = coverage(gathered.asked, [], {r.run.key: r for r in records})
    assert (line.singles.expected, line.singles.missing, line.pairs.expected, line.pairs.missing) == (18, 4, 18, 3)
    assert line.sentence() == (
        "toys/tiny erm: 14 of 18 reported runs, 15 of 18 leave-one-out runs (image 2 of 6; depth+image 3 of 6)"
    )
    assert line.commands == ()


def test_many_gaps_are_cut_short() -> None:
    names = tuple("abcdefgh")
    records = [r for r in sweep_records("erm", 0.5, names, trials=2, hparams=1) if len(r.run.test) == 1]
    records = [r for r in records if r.run.trial_seed == 0 or r.run.test == ("a",)]
    (line,) = coverage([r.run for r in records], [], {r.run.key: r for r in records})
    assert line.sentence().endswith("(b 1 of 2; c 1 of 2; d 1 of 2; e 1 of 2; f 1 of 2; g 1 of 2; and 1 more)")
    assert len(line.gaps) == 7


def test_what_was_not_begun_has_no_list_of_gaps() -> None:
    runs = [r.run for r in sweep_records("erm", 0.5)]
    (line,) = coverage(runs, [sweep("mgx learn", runs)], {})
    assert line.sentence() == "toys/tiny erm: 0 of 18 reported runs, 0 of 18 leave-one-out runs"


def lines(*records: RunRecord) -> list[str]:
    runs = [r.run for r in records]
    return [c.sentence() for c in coverage(runs, [sweep("mgx learn", runs)], {r.run.key: r for r in records})]


def test_sweeps_that_stand_on_two_boards_are_counted_in_two_lines() -> None:
    usual = sweep_records("erm", 0.5, trials=1, hparams=1)
    short = sweep_records("erm", 0.5, trials=1, hparams=1, steps=50)
    fewer = sweep_records("erm", 0.5, ("image", "depth"), trials=1, hparams=1)[:2]
    counts = "3 of 3 reported runs, 3 of 3 leave-one-out runs"
    assert lines(*usual, *short) == [
        f"toys/tiny erm (50 steps): {counts}",
        f"toys/tiny erm (301 steps): {counts}",
    ]
    assert lines(*usual, *fewer) == [
        "toys/tiny erm (depth+image): 2 of 2 reported runs",
        f"toys/tiny erm (depth+image+text): {counts}",
    ]
    assert lines(*usual, *sweep_records("concat", 0.5, trials=1, hparams=1, steps=50)) == [
        f"toys/tiny concat: {counts}",
        f"toys/tiny erm: {counts}",
    ]


def test_baselines_are_counted_by_what_they_read() -> None:
    assert lines(*baseline_records(), *reading_baselines(ALL), *reading_baselines(("image", "depth"))) == [
        "toys/tiny linear (depth+image): 2 of 2 reported runs",
        "toys/tiny linear (depth+image+text): 3 of 3 reported runs",
        "toys/tiny probe: 9 of 9 reported runs",
        "toys/tiny zeroshot: 3 of 3 reported runs",
    ]


def test_a_complete_sweep_needs_no_command() -> None:
    records = sweep_records("erm", 0.5)
    runs = [r.run for r in records]
    (line,) = coverage(runs, [sweep("mgx learn", runs)], {r.run.key: r for r in records})
    assert (line.missing, line.commands) == (0, ())


def test_the_fewest_commands_are_named() -> None:
    runs = [r.run for r in sweep_records("erm", 0.5)]
    sweeps = [sweep("mgx learn --trials 1", runs[:2]), sweep("mgx learn", runs), sweep("mgx learn --other", runs[2:3])]
    (line,) = coverage(runs, sweeps, {})
    assert line.commands == ("mgx learn",)


def test_commands_for_several_algorithms_are_one() -> None:
    one, two = "--dataset a --train x,y --test z", "--dataset b"
    commands = [f"mgx learn --algo erm {one}", f"mgx learn --algo erm {two}", f"mgx learn --algo irm {one}"]
    assert together([*commands, commands[0]]) == [
        f"mgx learn --algo erm --algo irm {one}",
        f"mgx learn --algo erm {two}",
    ]
    assert together(["mgx other", "mgx other"]) == ["mgx other"]


def test_runs_of_stale_sweeps_are_not_expected() -> None:
    new = [re_extracted(r) for r in sweep_records("erm", 0.6)]
    asked = [*(r.run for r in sweep_records("erm", 0.5)), *(r.run for r in new)]
    found = gather(new, asked, lambda d, p, m: "newer", {})
    assert {r.inputs["image"] for r in found.asked} == {"newer"}
