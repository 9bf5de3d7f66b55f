"""The networks against plain loops over the days, and the promises of `RunoffModel`."""

import math
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from study.models import ARCHITECTURES, RECURRENT_INITS, NetworkConfig, RunoffModel, build
from study.models.ealstm import EALSTM
from study.models.lstm import LSTM

from .reference import loop_ealstm, loop_lstm

BASINS, DAYS, DYNAMIC, STATIC, HIDDEN = 3, 40, 5, 4, 8

KINDS = {
    "lstm": ("lstm", STATIC),
    "lstm without statics": ("lstm", 0),
    "ealstm": ("ealstm", STATIC),
}
"""Every kind of model: its architecture and its number of static attributes."""

every_kind = pytest.mark.parametrize("kind", KINDS)
every_init = pytest.mark.parametrize("recurrent_init", RECURRENT_INITS)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_model(
    kind: str,
    *,
    dropout: float = 0.0,
    forget_bias: float = 3.0,
    recurrent_init: str = "uniform",
    hidden_size: int = HIDDEN,
    seed: int = 1,
    output: str = "linear",
) -> RunoffModel:
    name, num_static = KINDS[kind]
    config = NetworkConfig(
        num_dynamic=DYNAMIC,
        num_static=num_static,
        hidden_size=hidden_size,
        dropout=dropout,
        forget_bias=forget_bias,
        recurrent_init=recurrent_init,
        output=output,
    )
    return build(name, config, generator=seeded(seed))


def make_inputs(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    draws = seeded(2)
    dynamic = torch.randn(BASINS, DAYS, DYNAMIC, generator=draws, dtype=torch.float64)
    static = torch.randn(BASINS, KINDS[kind][1], generator=draws, dtype=torch.float64)
    return dynamic.to(dtype), static.to(dtype)


def loop(model: RunoffModel, dynamic: Tensor, static: Tensor) -> Tensor:
    if isinstance(model, EALSTM):
        return loop_ealstm(model, dynamic, static)
    assert isinstance(model, LSTM)
    return loop_lstm(model, dynamic, static)


def gradients(model: RunoffModel, runoff: Tensor) -> dict[str, Tensor]:
    """Gradients of a loss that weighs every day of every basin differently."""
    weights = torch.linspace(0.5, 2.0, runoff.numel(), dtype=runoff.dtype).view_as(runoff)
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad((weights * runoff.square()).sum(), parameters)
    return dict(zip(names, found, strict=True))


# --- values and gradients ------------------------------------------------------------------


@every_kind
@every_init
def test_equals_the_loop_in_float64(kind: str, recurrent_init: str) -> None:
    model = make_model(kind, recurrent_init=recurrent_init).double()
    dynamic, static = make_inputs(kind, torch.float64)
    runoff, _ = model(dynamic, static)
    expected = loop(model, dynamic, static)
    torch.testing.assert_close(runoff, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        gradients(model, runoff), gradients(model, expected), rtol=1e-9, atol=1e-12
    )


@every_kind
@pytest.mark.parametrize("training", [True, False])
def test_fused_float32_is_close_to_the_float64_loop(kind: str, training: bool) -> None:
    model = make_model(kind, hidden_size=32).train(training)
    with torch.set_grad_enabled(training):  # torch picks its CPU kernel by both
        runoff, _ = model(*make_inputs(kind))
    expected = loop(model.double(), *make_inputs(kind, torch.float64))
    torch.testing.assert_close(runoff.double(), expected, rtol=0, atol=1e-5)


def test_ealstm_is_an_lstm_with_zero_blocks() -> None:
    model = make_model("ealstm")
    assert isinstance(model, EALSTM)
    dynamic, static = make_inputs("ealstm")
    twin = nn.LSTM(DYNAMIC + STATIC, HIDDEN, batch_first=True)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    twin.load_state_dict(dict(zip(names, model.assemble(), strict=True)))
    hidden, _ = twin(torch.cat([dynamic, static[:, None].expand(-1, DAYS, -1)], dim=-1))
    torch.testing.assert_close(model(dynamic, static)[0], model.head(hidden).squeeze(-1))


def test_ealstm_weights_fill_one_buffer_without_gaps() -> None:
    model = make_model("ealstm")
    assert isinstance(model, EALSTM)
    parts = model.assemble()
    assert all(part.is_contiguous() for part in parts)
    assert len({part.untyped_storage().data_ptr() for part in parts}) == 1
    ends = [part.storage_offset() + part.numel() for part in parts]
    assert [part.storage_offset() for part in parts] == [0, *ends[:-1]]
    assert parts[0].untyped_storage().nbytes() == ends[-1] * parts[0].element_size()


@every_kind
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    model = make_model(kind)
    for name, gradient in gradients(model, model(*make_inputs(kind))[0]).items():
        assert (gradient != 0).all(), name


# --- state and warm-up ---------------------------------------------------------------------


@every_kind
def test_chunks_continue_one_run(kind: str) -> None:
    model = make_model(kind).double()
    dynamic, static = make_inputs(kind, torch.float64)
    whole, last = model(dynamic, static)
    chunks, state = [], None
    for chunk in torch.split(dynamic, [1, 17, 22], dim=1):
        runoff, state = model(chunk, static, state=state)
        chunks.append(runoff)
    torch.testing.assert_close(torch.cat(chunks, dim=1), whole, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(state, last, rtol=1e-12, atol=1e-14)
    assert [values.shape for values in last] == [(BASINS, HIDDEN)] * 2


@every_kind
@pytest.mark.parametrize("warmup", [0, 1, DAYS - 1, DAYS])
def test_warmup_drops_leading_days_only(kind: str, warmup: int) -> None:
    model = make_model(kind).double()
    inputs = make_inputs(kind, torch.float64)
    whole, last = model(*inputs)
    rest, state = model(*inputs, warmup=warmup)
    assert rest.shape == (BASINS, DAYS - warmup)
    torch.testing.assert_close(rest, whole[:, warmup:], rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(state, last, rtol=0, atol=0)


@pytest.mark.parametrize("warmup", [-1, DAYS + 1])
def test_warmup_must_fit(warmup: int) -> None:
    with pytest.raises(ValueError, match=rf"0 <= warmup <= {DAYS} days.* but got {warmup}"):
        make_model("lstm")(*make_inputs("lstm"), warmup=warmup)


# --- dropout -------------------------------------------------------------------------------


@every_kind
def test_dropout_keeps_the_mean(kind: str) -> None:
    model = make_model(kind, dropout=0.4)
    inputs, draws = make_inputs(kind), seeded(3)
    passes = torch.stack(
        [model(*inputs, dropout_mask_generator=draws)[0].detach() for _ in range(2000)]
    )
    expected = model.eval()(*inputs)[0].detach()
    standard_error = passes.std(dim=0) / math.sqrt(len(passes))
    # The largest of 120 standard normal deviates stays below 5 all but once in 10 000 times.
    assert ((passes.mean(dim=0) - expected).abs() < 5 * standard_error).all()
    assert (passes.std(dim=0) > 0).all()


def test_dropout_zeroes_its_share_and_scales_the_rest() -> None:
    model = make_model("lstm", dropout=0.25)
    hidden = torch.ones(50, 100, HIDDEN)
    dropped = model._drop(hidden, seeded(4))
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / 0.75))
    # Binomial: 40 000 draws, standard deviation of the share sqrt(.25 * .75 / 40000) = 0.0022.
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.01)


@every_kind
def test_dropout_follows_its_generator_alone(kind: str) -> None:
    model = make_model(kind, dropout=0.4)
    inputs = make_inputs(kind)
    first, second, other = (
        model(*inputs, dropout_mask_generator=seeded(seed))[0] for seed in (5, 5, 6)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("warmup", "carried", "most"), [(10, -1, 10), (10, 11, 10), (DAYS, DAYS, DAYS - 1)]
)
def test_carried_days_are_of_the_warmup(warmup: int, carried: int, most: int) -> None:
    with pytest.raises(ValueError, match=rf"0 <= carried <= {most} days.* but got {carried}"):
        make_model("lstm")(*make_inputs("lstm"), warmup=warmup, carried=carried)


@every_kind
def test_warmup_draws_no_dropout(kind: str) -> None:
    model = make_model(kind, dropout=0.4)
    dynamic, static = make_inputs(kind)
    scored, _ = model(dynamic, static, warmup=10, dropout_mask_generator=seeded(5))
    _, state = model(dynamic[:, :10], static, warmup=10, dropout_mask_generator=seeded(6))
    again, _ = model(dynamic[:, 10:], static, state=state, dropout_mask_generator=seeded(5))
    torch.testing.assert_close(again, scored)


@every_kind
def test_dropout_does_nothing_outside_training(kind: str) -> None:
    inputs = make_inputs(kind)
    without = make_model(kind)(*inputs)[0]
    evaluated = make_model(kind, dropout=0.4).eval()(*inputs)[0]
    torch.testing.assert_close(evaluated, without)


def test_dropout_in_training_needs_a_generator() -> None:
    with pytest.raises(ValueError, match=r"dropout > 0, but got None with dropout 0\.4"):
        make_model("lstm", dropout=0.4)(*make_inputs("lstm"))


# --- initial values ------------------------------------------------------------------------


@every_kind
@every_init
def test_same_seed_same_bits_and_no_global_draw(kind: str, recurrent_init: str) -> None:
    before = torch.get_rng_state()
    first, second, other = (
        make_model(kind, recurrent_init=recurrent_init, dropout=0.4, seed=seed)
        for seed in (7, 7, 8)
    )
    first(*make_inputs(kind), dropout_mask_generator=seeded(9))
    assert torch.equal(torch.get_rng_state(), before)
    for name, values in first.state_dict().items():
        assert torch.equal(values, second.state_dict()[name]), name
    assert not torch.equal(first.head.weight, other.head.weight)


def recurrent_blocks(model: RunoffModel) -> tuple[Tensor, ...]:
    parameters = dict(model.named_parameters())
    weight = parameters["weight_h" if isinstance(model, EALSTM) else "lstm.weight_hh_l0"]
    return torch.split(weight.detach(), HIDDEN)


def input_weights(model: RunoffModel) -> list[Tensor]:
    names = ("weight_x", "weight_s", "lstm.weight_ih_l0")
    return [values.detach() for name, values in model.named_parameters() if name in names]


def gate_biases(model: RunoffModel) -> Tensor:
    """Sum of torch's two biases; the EA-LSTM's in the same order i, f, g, o."""
    if isinstance(model, EALSTM):
        return torch.cat([model.bias_s, model.bias]).detach()
    parameters = dict(model.named_parameters())
    return (parameters["lstm.bias_ih_l0"] + parameters["lstm.bias_hh_l0"]).detach()


@every_kind
@every_init
def test_forget_bias(kind: str, recurrent_init: str) -> None:
    biases = gate_biases(make_model(kind, recurrent_init=recurrent_init, forget_bias=2.5))
    i, f, g, o = torch.split(biases, HIDDEN)
    assert (f == 2.5).all()
    others = torch.cat([i, g, o])
    assert (others != 0).all() if recurrent_init == "uniform" else (others == 0).all()


@every_kind
def test_orthogonal_blocks(kind: str) -> None:
    blocks = recurrent_blocks(make_model(kind, recurrent_init="orthogonal"))
    for block in blocks:
        torch.testing.assert_close(block @ block.T, torch.eye(HIDDEN))
    assert not torch.equal(blocks[0], blocks[1])


@every_kind
def test_identity_blocks_and_orthogonal_inputs(kind: str) -> None:
    model = make_model(kind, recurrent_init="identity")
    assert all(torch.equal(block, torch.eye(HIDDEN)) for block in recurrent_blocks(model))
    for weight in input_weights(model):  # more rows than columns: orthonormal columns
        torch.testing.assert_close(weight.T @ weight, torch.eye(weight.shape[1]))


@every_kind
def test_uniform_bounds(kind: str) -> None:
    model = make_model(kind, recurrent_init="uniform", forget_bias=0.0, hidden_size=64)
    for name, values in model.named_parameters():
        assert values.abs().max() <= 64**-0.5, name
        # The largest of n draws lies above 0.8 of the bound but for 0.8^n: n >= 64 here.
        assert values.numel() == 1 or values.abs().max() > 0.8 * 64**-0.5, name


@every_kind
def test_output(kind: str) -> None:
    """The hyperbolic sine of what the same network says without; the memory is the same."""
    dynamic, static = make_inputs(kind)
    plain, state = make_model(kind)(dynamic, static)
    curved, same_state = make_model(kind, output="sinh")(dynamic, static)
    torch.testing.assert_close(curved, (plain.exp() - (-plain).exp()) / 2, rtol=1e-5, atol=1e-6)
    assert torch.equal(state[1], same_state[1])


# --- arguments -----------------------------------------------------------------------------

VALID = {
    "name": "ealstm",
    "num_dynamic": DYNAMIC,
    "num_static": STATIC,
    "hidden_size": HIDDEN,
    "dropout": 0.0,
    "forget_bias": 3.0,
    "recurrent_init": "uniform",
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "gru"}, r"`name` must be one of \['ealstm', 'lstm'\], but got 'gru'"),
        ({"num_dynamic": 0}, "`num_dynamic >= 1` must hold, but got 0"),
        ({"num_static": 0}, "`num_static >= 1` must hold for the EA-LSTM.* but got 0"),
        ({"name": "lstm", "num_static": -1}, "`num_static >= 0` must hold, but got -1"),
        ({"hidden_size": 0}, "`hidden_size >= 1` must hold, but got 0"),
        ({"dropout": 1.0}, "`0 <= dropout < 1` must hold, but got 1.0"),
        ({"recurrent_init": "zeros"}, "`recurrent_init` must be one of .*, but got 'zeros'"),
        ({"output": "exp"}, r"`output` must be one of \['linear', 'sinh'\], but got 'exp'"),
    ],
)
def test_rules_are_stated(change: dict[str, object], message: str) -> None:
    fields = VALID | change
    name, config = str(fields.pop("name")), cast("Callable[..., NetworkConfig]", NetworkConfig)
    with pytest.raises(ValueError, match=message):
        build(name, config(**fields), generator=seeded(1))


def test_every_architecture_is_tested() -> None:
    assert {name for name, _ in KINDS.values()} == set(ARCHITECTURES)
