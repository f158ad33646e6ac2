"""Quirks do what the published code does: each against a plain loop, by hand, or against the fact sheet's figures."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mgx.learn import space
from mgx.learn.algorithm import ALGORITHMS, Algorithm, Batch, Shape
from mgx.learn.algorithms import ermpp
from mgx.learn.features import FeatureSet, feature_sets
from mgx.learn.keyed import beta, key_of, uniform
from mgx.learn.prepare import model_of, notes_on
from mgx.learn.protocol import Case, name_of, protocol_of, quirks
from mgx.learn.published import hparams
from mgx.learn.quirks.own_splits import own_splits, permutation
from mgx.learn.quirks.unpaired_mml import misread
from mgx.learn.runs import Asked, algorithm_runs, frame_from, frame_of
from mgx.learn.train import Model, Stack
from mgx.shared.cli import run
from mgx.shared.errors import BadRequest, UnknownName
from mgx.shared.home import Home
from mgx.shared.manifest import find_manifest
from mgx.shared.seeds import job_seed
from tests.learn.plain import CLOSE, descend, featurizer, linear, parts, rounded

CASE = Case("toy", "weak")
TWO, ONE, THREE = ("image", "depth"), ("text",), ("image", "depth", "text")
AUDIT = ["A1", "A2", "A3", "A4", "B1", "B2", "B3", "B4", "B6", "B7", "C5"]


@pytest.fixture
def data(home, toy) -> FeatureSet:
    return next(iter(feature_sets(home).values()))()


def with_quirks(name: str, *names: str) -> Algorithm:
    return protocol_of(name_of("standard", names)).algorithm(name, CASE)


def stack_of(data: FeatureSet, algorithm: Algorithm, hyper, modalities, steps: int = 100) -> Stack:
    rows = tuple(data.rows[m][:100] for m in modalities)
    models = [Model(key_of(n), rounded(h), rows, {}) for n, h in enumerate([hyper, replace(hyper, batch_size=7)])]
    return Stack(algorithm, models, data, steps, dtype=torch.float64)


def follow(stack: Stack, plain, steps: int = 60, within: Mapping[str, float] = CLOSE) -> None:
    """Train the stack, and each model with `plain(model number)`, a function of its rows; they must agree."""
    loops = [plain(n) for n in range(len(stack.models))]
    before = {name: value.clone() for name, value in stack.params.items()}
    for step in range(steps):
        own = list(parts(stack, stack.batch(step)))
        with torch.no_grad():
            stack.advance(step)
        for (net, learn), rows in zip(loops, own, strict=True):
            learn(rows)
            del net
    for n, (net, _) in enumerate(loops):
        for name, value in net.items():
            torch.testing.assert_close(stack.params[name][n], value.detach(), **within, msg=name)
    moved = [float((stack.params[name] - value).abs().max()) for name, value in before.items()]
    assert max(moved) > 1e-4, "nothing moved: the test would prove nothing"


def named(**modules: nn.Module) -> dict[str, torch.Tensor]:
    """The trainer's names of the weights of plain modules."""
    found = {}
    for name, module in modules.items():
        layers = [m for m in module.modules() if isinstance(m, nn.Linear)]
        for n, layer in enumerate(layers):
            place = f"{name}.{n}" if len(layers) > 1 else name
            found |= {f"{place}.weight": layer.weight, f"{place}.bias": layer.bias}
    return found


def mismatched(x: torch.Tensor) -> list[torch.Tensor]:
    """What the published learners read: rows m .. m + B - 1 of a batch that goes instance by instance."""
    modalities, items = x.shape[:2]
    flat = torch.stack([x[m, i] for i in range(items) for m in range(modalities)])
    return [flat[m : m + items] for m in range(modalities)]


def sgd(parameters, hyper) -> torch.optim.SGD:
    return torch.optim.SGD(parameters, hyper.lr, hyper.momentum, weight_decay=hyper.weight_decay)


def test_the_quirks_are_those_of_the_audit():
    assert [quirk.audit for quirk in quirks().values()] == AUDIT
    assert len(protocol_of("modalbed").quirks) == len(AUDIT)
    assert all(quirk.reason and "\n" not in quirk.reason for quirk in quirks().values())
    assert all(set(quirk.algorithms) <= set(ALGORITHMS.names()) for quirk in quirks().values())


@pytest.mark.slow
@pytest.mark.parametrize("quirk", [*quirks()])
def test_a_quirk_changes_what_it_names_and_nothing_else(quirk):
    (own,) = protocol_of(name_of("standard", [quirk])).quirks
    case = Case("toy", "strong", features=16, entry=12)
    for name in ALGORITHMS.names():
        made = protocol_of(f"standard+{quirk}").algorithm(name, case)
        assert (made is not ALGORITHMS.get(name)) == (own.edit is not None and own.concerns(name))
    assert protocol_of("standard").quirks == ()


def test_names_are_forgiving_and_unknown_ones_are_refused():
    assert name_of("Standard", ["UNPAIRED_MML", "own-splits"]) == "standard+own-splits+unpaired-mml"
    assert name_of("ModalBed", []) == "modalbed"
    with pytest.raises(UnknownName, match="unpaired-mml"):
        name_of("standard", ["unpaired"])
    with pytest.raises(UnknownName, match="modalbed"):
        name_of("modalbad", [])
    with pytest.raises(BadRequest, match="every quirk already"):
        name_of("modalbed", ["own-splits"])


def test_explain_lists_every_quirk_with_its_reason(home, capsys):
    assert run(["--home", str(home.root), "learn", "--protocol", "modalbed", "--explain"]) == 0
    said = capsys.readouterr().out
    assert all(f"{name}  ({quirk.audit};" in said and quirk.reason in said for name, quirk in quirks().items())
    assert run(["--home", str(home.root), "learn", "--explain", "--quirk", "own-splits", "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["audit"] == "C5"


# A2: mismatched rows


@pytest.mark.parametrize("modalities", [1, 2, 3])
def test_misread_rows_are_those_of_the_published_slices(modalities):
    x = torch.arange(modalities * 5).view(modalities, 5, 1)
    batch = Batch(x, torch.zeros(modalities, 5), *[torch.zeros(())] * 8)
    assert torch.equal(misread(batch).x, torch.stack(mismatched(x)))
    right = (misread(batch).x == x).all(0).sum()
    assert right == {1: 5, 2: 1, 3: 1}[modalities]


@pytest.mark.slow
@pytest.mark.parametrize("modalities", [TWO, THREE, ONE], ids="+".join)
def test_unpaired_concat_is_a_plain_loop(data, modalities):
    algorithm = with_quirks("concat", "unpaired-mml")
    stack = stack_of(data, algorithm, algorithm.hyper(lr=1e-3, batch_size=12), modalities)

    def plain(n):
        body, head, hyper = featurizer(stack, n), linear(stack, "classifier", n), stack.models[n].hyper
        optimizer = torch.optim.Adam(
            [*body.parameters(), *head.parameters()], hyper.lr, weight_decay=hyper.weight_decay
        )

        def learn(rows):
            joint = head(torch.cat([body(own) for own in mismatched(rows.x)], 1))
            descend(optimizer, cross_entropy(joint, rows.y[0]))

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain)


# A4, B6: OGM


def test_published_ogm_is_concat_behind_fixed_heads_under_sgd(data):
    algorithm = with_quirks("ogm", "inert-ogm", "mixed-optimizers", "unpaired-mml")
    stack = stack_of(data, algorithm, algorithm.hyper(lr=1e-2, batch_size=12), TWO)
    still = {name: value.clone() for name, value in stack.params.items() if name.startswith("head")}

    def plain(n):
        body, head = featurizer(stack, n), linear(stack, "classifier", n)
        fixed = [linear(stack, f"head{m}", n) for m in range(2)]
        optimizer = sgd([*body.parameters(), *head.parameters()], stack.models[n].hyper)

        def learn(rows):
            z = [own(body(x)) for own, x in zip(fixed, mismatched(rows.x), strict=True)]
            descend(optimizer, cross_entropy(head(torch.cat(z, 1)), rows.y[0]))

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain)
    assert all(torch.equal(stack.params[name], value) for name, value in still.items())


# B6, B7: DLMG


def test_published_dlmg_is_a_plain_loop(data):
    algorithm = with_quirks("dlmg", "feature-dlmg", "mixed-optimizers", "unpaired-mml")
    stack = stack_of(data, algorithm, algorithm.hyper(lr=1e-2, batch_size=12), TWO)

    def plain(n):
        body, head = featurizer(stack, n), linear(stack, "classifier", n)
        optimizer = sgd([*body.parameters(), *head.parameters()], stack.models[n].hyper)

        def learn(rows):
            z = [body(own) for own in mismatched(rows.x)]
            p, q = (own.softmax(1) for own in z)
            middle = (p + q) / 2
            apart = 0.5 * ((middle * (middle / p).log()).sum(1) + (middle * (middle / q).log()).sum(1)).mean()
            aligning = min(max(np.exp(-0.3 * rows.epoch), 0.05), 0.95)
            risk = cross_entropy(head(torch.cat(z, 1)), rows.y[0])
            descend(optimizer, aligning * apart + (1 - aligning) * risk)

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain)


def test_published_dlmg_copies_a_modality_into_every_slot(data):
    algorithm = with_quirks("dlmg", "feature-dlmg")
    stack = stack_of(data, algorithm, algorithm.hyper(), TWO)
    body, head, x = featurizer(stack, 0), linear(stack, "classifier", 0), stack.matrix[:5]
    made = algorithm.predict({name: p[0] for name, p in stack.params.items()}, None, {}, x)
    torch.testing.assert_close(made, head(torch.cat([body(x), body(x)], 1)).detach())


# B1: URM


@pytest.mark.slow
@pytest.mark.parametrize("output", ["tanh", "relu"])
def test_unbounded_urm_is_a_plain_loop(data, output):
    algorithm = with_quirks("urm", "unbounded-urm")
    hyper = algorithm.hyper(lr=1e-3, lr_d=1e-3, adversary=0.2, output=output, hidden_layers=1, batch_size=12)
    stack = stack_of(data, algorithm, hyper, TWO)

    def plain(n):
        body, head = featurizer(stack, n), linear(stack, "classifier", n)
        layers = [linear(stack, f"disc.{name}", n) for name in ("0", "1", "out")]
        disc = nn.Sequential(layers[0], nn.LeakyReLU(0.01), layers[1], nn.LeakyReLU(0.01), layers[2])
        own = stack.models[n].hyper
        learner = torch.optim.Adam([*body.parameters(), *head.parameters()], own.lr, weight_decay=own.weight_decay)
        other = torch.optim.Adam(disc.parameters(), own.lr_d, weight_decay=own.weight_decay)

        def binary(scores, answer):
            return nn.functional.binary_cross_entropy_with_logits(scores, torch.full_like(scores, answer))

        def learn(rows):
            # The noise is drawn for the padded batch; coordinates, not extents, decide a draw.
            noise = uniform(rows.keys[0], "noise", rows.x.shape).double().flatten(0, 1)
            noise = 2 * noise - 1 if output == "tanh" else noise
            z = body(rows.x.flatten(0, 1))
            seen = z.detach()
            loss = cross_entropy(head(z), rows.y.flatten()) + own.adversary * binary(disc(z), 1.0)
            learner.zero_grad()
            loss.backward()
            disc.zero_grad()
            (binary(disc(noise), 1.0) + own.adversary * binary(disc(seen), 0.0)).backward()
            learner.step()
            other.step()

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain)


def test_unbounded_urm_predicts_without_the_activation(data):
    algorithm = with_quirks("urm", "unbounded-urm")
    stack = stack_of(data, algorithm, algorithm.hyper(), TWO)
    body, head, x = featurizer(stack, 0), linear(stack, "classifier", 0), stack.matrix[:5]
    params = {name: p[0] for name, p in stack.params.items()}
    torch.testing.assert_close(algorithm.predict(params, stack.models[0].hyper, {}, x), head(body(x)).detach())


# B2, B3: EQRM


def test_lone_eqrm_breaks_at_its_burnin(data):
    algorithm = with_quirks("eqrm", "lone-eqrm")
    rows = (data.rows["text"][:100],)
    hyper = replace(algorithm.hyper(), burnin_steps=20)
    for modalities, want in ((1, 20), (2, -1)):
        stack = Stack(algorithm, [Model(1, hyper, rows * modalities, {})], data, 40)
        with torch.no_grad():
            for step in range(30):
                stack.advance(step)
        assert stack.diverged.tolist() == [want]


@pytest.mark.parametrize(("burnin", "resets"), [(20.0, True), (20.5, False)])
def test_a_fractional_burnin_is_never_met(data, burnin, resets):
    algorithm = with_quirks("eqrm", "float-burnin")
    hyper = algorithm.hyper(lr=1e-3, lr_after=1e-4, burnin_steps=burnin, batch_size=12)
    stack = stack_of(data, algorithm, hyper, TWO)

    def plain(n):
        body, head, own = featurizer(stack, n), linear(stack, "classifier", n), stack.models[n].hyper
        weights = [*body.parameters(), *head.parameters()]
        state = {"optimizer": torch.optim.Adam(weights, own.lr, weight_decay=own.weight_decay), "count": 0}

        def learn(rows):
            if state["count"] == 20 and resets:
                state["optimizer"] = torch.optim.Adam(weights, own.lr_after, weight_decay=own.weight_decay)
            risk = torch.stack([cross_entropy(head(body(x)), y) for x, y in zip(rows.x, rows.y, strict=True)])
            loss = risk.mean()
            if state["count"] >= burnin:
                loss = loss + 0.5801852 * (risk[0] - risk[1]).abs()  # the closed form at q = 0.75
            descend(state["optimizer"], loss)
            state["count"] += 1

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain, within={"rtol": 1e-4, "atol": 1e-6})  # the constant has seven digits


# B4: Mixup


def test_mixed_scores_are_a_plain_loop(data):
    algorithm = with_quirks("mixup", "mixed-scores")
    stack = stack_of(data, algorithm, algorithm.hyper(lr=1e-3, alpha=1.0, batch_size=12), THREE)

    def plain(n):
        body, head, own = featurizer(stack, n), linear(stack, "classifier", n), stack.models[n].hyper
        optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], own.lr, weight_decay=own.weight_decay)

        def learn(rows):
            order = np.argsort(uniform(rows.keys[0], "order", (3,)).numpy())
            share = beta(rows.keys[0], "share", (3,), torch.tensor(own.alpha)).double()
            total = 0.0
            for place in range(3):
                i, j, s = order[place], order[(place + 1) % 3], share[place]
                scores = s * head(body(rows.x[i])) + (1 - s) * head(body(rows.x[j]))
                total = total + s * cross_entropy(scores, rows.y[i]) + (1 - s) * cross_entropy(scores, rows.y[j])
            descend(optimizer, total / 3)

        return named(featurizer=body, classifier=head), learn

    follow(stack, plain)


# A3, and what the published registry draws


def plan(home: Home, name: str, dataset: str, seeds: tuple[int, int], setting: str = "weak") -> dict:
    frame = frame_from(find_manifest(dataset, home), "imagebind", setting)
    runs = algorithm_runs(name, frame, Asked(3, 3, protocol="modalbed"))
    one = next(r for r in runs if (r.hparams_seed, r.trial_seed) == seeds)
    return hparams(one, frame.case)


@pytest.mark.parametrize(
    ("name", "dataset", "setting", "seeds", "want"),
    [
        ("erm", "nyudv2", "weak", (1, 0), {
            "lr": 2.7028930742148706e-05, "weight_decay": 0.00044832883881609976, "batch_size": 39}),
        ("eqrm", "msrvtt", "strong", (1, 0), {
            "lr": 2.7028930742148706e-05, "eqrm_quantile": 0.7335553271795177,
            "eqrm_burnin_iters": 423.2761238000087, "eqrm_lr": 4.377815305398272e-06}),
        ("cdann", "vggsound_s", "weak", (1, 0), {
            "lambda": 3.500347568342894, "weight_decay_d": 0.00010096814830489473, "d_steps_per_g_step": 7,
            "grad_penalty": 3.044417571888086, "beta1": 0.5, "mlp_width": 255, "mlp_depth": 4, "mlp_dropout": 0.5,
            "lr_g": 0.00018927227584350511, "lr_d": 1.7562793545765942e-05, "weight_decay_g": 0.003716490191663224,
            "batch_size": 39}),
        ("erm", "nyudv2", "strong", (2, 1), {
            "lr": 0.008070750040104992, "weight_decay": 3.539788355410888e-06, "batch_size": 18}),
        ("ogm", "msrvtt", "weak", (1, 0), {
            "lr": 0.0003765059298634022, "momentum": 0.8983216227611648, "wc": 0.00010751017184998488,
            "patience": 77.72785106766206, "gamma": 0.3802967614642425, "alpha": 0.253821447934545, "batch_size": 39}),
        ("urm", "msrvtt", "weak", (2, 2), {
            "urm_adv_lambda": 0.17580102809784653, "urm_discriminator_hidden_layers": 3,
            "urm_generator_output": "relu", "urm_discriminator_lr": 1.2686594700511945e-05,
            "lr": 2.95623643291898e-05, "batch_size": 37}),
        ("condcad", "msrvtt", "weak", (1, 1), {
            "lmbda": 1.0, "temperature": 0.05, "lr": 2.2352558725944602e-05, "batch_size": 8}),
    ],
)  # fmt: skip
def test_modalbed_draws_the_published_values_to_the_last_bit(home, name, dataset, setting, seeds, want):
    made = plan(home, name, dataset, seeds, setting)
    assert {own: made[own] for own in want} == want


@pytest.mark.parametrize(
    ("name", "setting", "want"),
    [
        ("erm", "weak", 5e-5),
        ("erm", "strong", 1e-3),
        ("cdann", "strong", 5e-5),
        ("concat", "weak", 1e-3),
    ],
)
def test_published_defaults(home, name, setting, want):
    made = plan(home, name, "nyudv2", (0, 1), setting)
    assert made["lr" if name != "cdann" else "lr_g"] == want


def test_standard_keeps_the_quantiles_and_shares_one_range():
    drawn = {name: space.draw(ALGORITHMS.get(name).hyper, 1, 0).lr for name in ALGORITHMS.names() if name != "cdann"}
    assert len(set(drawn.values())) == 1
    published = np.log10(2.7028930742148706e-05)
    assert (np.log10(drawn["erm"]) + 4) / 2 == pytest.approx((published + 5) / 1.5)


def test_job_seeds_are_the_published_ones(home):
    assert job_seed("MSR_VTT", "ERM", [0], 1, 0) == 1056938711
    found = {
        (r.algorithm, r.test): r.seed
        for name in ("erm", "dlmg", "ermpp", "ib_erm")
        for r in algorithm_runs(name, frame_from(find_manifest("msrvtt", home), "imagebind", "weak"), Asked(2, 1))
        if r.hparams_seed == 1
    }
    assert found["erm", ("video",)] == 1056938711
    assert found["erm", ("video", "audio")] == 2068653244
    for name, published in (("dlmg", "LFM"), ("ermpp", "ERMPlusPlus"), ("ib_erm", "IB_ERM")):
        assert found[name, ("text",)] == job_seed("MSR_VTT", published, [2], 1, 0)
    for name, want in (("vggsound", 474884656), ("vggsound_s", 764465092)):
        runs = algorithm_runs("erm", frame_from(find_manifest(name, home), "imagebind", "weak"), Asked(2, 1))
        assert next(r.seed for r in runs if r.test == ("video",) and r.hparams_seed == 1) == want


def test_steps_are_the_published_ones(home):
    steps = {
        name: frame_from(find_manifest(name, home), "p", "weak").steps for name in ("msrvtt", "nyudv2", "vggsound_s")
    }
    assert steps == {"msrvtt": 5001, "nyudv2": 10001, "vggsound_s": 5001}


# C5: splits


def test_split_permutations_are_the_published_ones():
    order = permutation(10000, 0, 0)
    assert order[:8] == [5874, 8778, 9139, 5215, 550, 7981, 1896, 3478]
    assert order[2000:2004] == [1392, 6418, 944, 1092]
    assert permutation(10, 0, 0) == [2, 3, 8, 1, 4, 5, 0, 9, 6, 7]


def test_own_splits_report_on_what_they_train_on_elsewhere(data):
    division = own_splits(data, 0)
    for modality in data.modalities:
        outer, inner = division.of(modality, "val"), division.of(modality, "train")
        assert (len(outer), len(inner)) == (24, 96)
        assert not set(outer) & set(inner)
        assert np.array_equal(inner, division.of(modality, "test"))
        assert np.array_equal(inner, division.of(modality, "left_out"))
    assert not np.array_equal(division.of("image", "val"), division.of("depth", "val"))
    assert not np.array_equal(division.of("image", "val"), own_splits(data, 1).of("image", "val"))
    # The store's order counts, not that of the sorted ids: reverse it, and other instances are out.
    backwards = replace(data, rows={**data.rows, "image": data.rows["image"][::-1].copy()})
    assert not np.array_equal(own_splits(backwards, 0).of("image", "val"), division.of("image", "val"))


def test_own_splits_train_mml_on_what_all_modalities_have_in(data):
    one, *_ = algorithm_runs("concat", frame_of(data), Asked(1, 1, protocol="standard+own-splits"))
    division = own_splits(data, 0)
    model = model_of(one, data, division)
    common = set.intersection(*(set(division.of(m, "train").tolist()) for m in one.train))
    for modality, rows in zip(one.train, model.train, strict=True):
        assert rows.tolist() == data.rows[modality][sorted(common)].tolist()


# A1: the strong setting


@pytest.fixture
def strong(data) -> FeatureSet:
    """Unseen modalities come from a space of their own, wider than the binding one."""
    random = np.random.default_rng(1)
    blocks = [random.normal(size=(len(data.ids), 24)).astype(np.float32) for _ in data.modalities]
    wide = np.pad(data.matrix, ((0, 0), (0, 8)))
    start, count = len(data.matrix), len(data.ids)
    rows = {m: np.arange(start + n * count, start + (n + 1) * count) for n, m in enumerate(data.modalities)}
    return replace(data, matrix=np.concatenate([wide, *blocks]), strong=rows, entry=16)


def test_strong_scores_unseen_modalities_through_the_strong_perceptor(strong):
    scored = {}
    for protocol in ("standard", "standard+strong-validation"):
        one, *_ = algorithm_runs("erm", frame_of(strong), Asked(1, 1, protocol=protocol))
        division = protocol_of(protocol).divide(strong, 0)
        model = model_of(one, strong, division)
        assert one.setting == "strong"
        binding = len(strong.ids) * 3
        assert all((rows < binding).all() for rows in model.train)
        scored[protocol] = {name: bool((rows >= binding).all()) for name, rows in model.scored.items()}
    assert scored["standard"] == {"image/test": True, "image/val": True, "depth/val": False, "text/val": False}
    assert set(scored["standard+strong-validation"].values()) == {True}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_a_narrow_perceptor_enters_through_a_layer_that_prediction_skips(strong, name):
    protocol = protocol_of("modalbed")
    algorithm = protocol.algorithm(name, frame_of(strong).case)
    rows = tuple(strong.rows[m][:100] for m in TWO)
    hyper = replace(algorithm.hyper(), lr=1e-2)
    stack = Stack(algorithm, [Model(1, hyper, rows, {})], strong, 20)
    before = stack.params["featurizer.entry.weight"].clone()
    assert before.shape == (1, 24, 16)
    with torch.no_grad():
        for step in range(4):
            stack.advance(step)
    moves = name != "ermpp"  # its first 501 steps leave the featurizer alone
    assert torch.equal(stack.params["featurizer.entry.weight"], before) != moves
    params = {n: p[0] for n, p in stack.params.items()}
    state = {n: p[0] for n, p in stack.state.items()}
    x = stack.matrix[-5:]
    other = {n: torch.zeros_like(p) if "entry" in n else p for n, p in params.items()}
    made = algorithm.predict(params, hyper, state, x)
    assert made.shape == (5, 4)
    assert torch.equal(made, algorithm.predict(other, hyper, state, x))


def test_without_a_narrow_perceptor_there_is_no_such_layer(data):
    algorithm = protocol_of("modalbed").algorithm("erm", frame_of(data).case)
    params = algorithm.init(torch.tensor(1), Shape(16, 4, 2), algorithm.hyper())
    assert not any("entry" in name for name in params)


# What one training modality cannot tell


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS.names())
def test_idle_knobs_have_no_effect_on_one_modality_and_the_others_have(data, name, monkeypatch):
    monkeypatch.setattr(ermpp, "LINEAR_STEPS", 5)
    monkeypatch.setattr(ermpp, "AVERAGED", 8)
    algorithm = ALGORITHMS.get(name)
    base = replace(space.draw(algorithm.hyper, 1, 0), batch_size=12, lr=1e-3)
    if name in ("irm", "ib_erm"):
        base = replace(base, anneal_steps=10)
    if name == "eqrm":
        base = replace(base, burnin_steps=10)
    if name == "cdann":
        base = replace(base, d_steps=1)

    def trained(hyper) -> torch.Tensor:
        stack = Stack(algorithm, [Model(1, hyper, (data.rows["text"][:100],), {})], data, 40)
        with torch.no_grad():
            for step in range(20):
                stack.advance(step)
            params, state = ({n: p[0] for n, p in tree.items()} for tree in (stack.params, stack.state))
            return algorithm.predict(params, hyper, state, stack.matrix)

    first = trained(base)
    for knob in fields(base):
        value = getattr(base, knob.name)
        other = {"tanh": "relu", "relu": "tanh"}.get(value) if isinstance(value, str) else type(value)(value * 2 + 1)
        if knob.name == "beta1":
            other = 0.5 if value == 0.0 else 0.0
        if knob.name == "dropout":
            other = 0.5 if value != 0.5 else 0.1
        if knob.name in ("lr", "lr_after", "lr_d", "linear_lr"):
            other = value * 2
        if knob.name == "momentum":
            other = 0.5
        same = torch.allclose(first, trained(replace(base, **{knob.name: other})), rtol=1e-5, atol=1e-6)
        unread = knob.name == "momentum"  # of SGD: `standard` trains with Adam
        assert same == (knob.name in algorithm.idle_alone or unread), knob.name


def test_a_single_modality_is_said_to_leave_knobs_unchosen(data):
    runs = algorithm_runs("mixup", frame_of(data), Asked(1, 1))
    division = protocol_of("standard").divide(data, 0)
    notes = {len(r.train): notes_on(r, data, division) for r in runs}
    assert any("alpha had no effect: LOO cannot choose that" in note for note in notes[1])
    assert not any("LOO" in note for note in notes[2])
