"""Real torch tensors as pools of numbers, where torch is installed: every dtype, layout and axis
order, and nobody writes into the other's memory.
"""

import jax
import numpy as np
import oracles
import pytest

from bayesal import acquire, choose, errors, pools, predictive, scores, select

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

K, N, C, SIZE = 6, 30, 3, 4
LOG_P, P = oracles.random_log_probs(0, (K, N, C))
WANT = select.batch_bald(jax.random.key(0), LOG_P, SIZE)
BATCH, BALD = acquire.batch_bald(), acquire.top(scores.bald)
numbers = oracles.as_users_do(pools.numbers)


def picked(strategy=BATCH, size=SIZE, available=None, **given):
    pool = numbers(**{"axes": "K N C", **given})
    return choose(0, None, pool, size, strategy, available=available)


def strided(tensor):
    """The same numbers with gaps between them."""
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1]), torch.nan, dtype=tensor.dtype)
    wide[..., ::2] = tensor
    return wide[..., ::2]


FORMS = {
    "float32": lambda t: t,
    "float64": lambda t: t.double(),
    "requires_grad": lambda t: t.clone().requires_grad_(),
    "inside a graph": lambda t: t.clone().requires_grad_() * 1.0,
    "Parameter": torch.nn.Parameter,
    "permuted": lambda t: t.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "strided": strided,
    "strided, with gradient": lambda t: strided(t).requires_grad_(),
    "expanded": lambda t: t[None].expand(5, *t.shape)[3],
    "a view with an offset": lambda t: torch.cat([torch.full((1, N, C), torch.nan), t])[1:],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["log_probs", "probs", "logits"])
def test_every_form_and_kind_gives_the_picks_of_the_core(form, kind):
    numbers = {"log_probs": LOG_P, "probs": np.exp(LOG_P), "logits": LOG_P + np.float32(3)}[kind]
    tensor = FORMS[form](torch.from_numpy(numbers.copy()))
    before = tensor.detach().clone()
    found = picked(**{kind: tensor})
    assert found.indices.tolist() == WANT.indices.tolist()
    np.testing.assert_allclose(found.scores, WANT.scores, atol=2e-5)
    assert torch.equal(tensor.detach(), before)


@pytest.mark.parametrize("axes", ["K N C", "K C N", "N K C", "N C K", "C K N", "C N K"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_axes_come_in_any_order(axes, dtype):
    tensor = torch.from_numpy(LOG_P).to(dtype).permute(["KNC".index(a) for a in axes.split()])
    plain = tensor.permute([axes.split().index(a) for a in "KNC"]).float().numpy()
    for given in (tensor, tensor.contiguous(), tensor.clone().requires_grad_()):
        found = picked(logits=given, axes=axes).indices.tolist()
        assert found == picked(logits=plain).indices.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):  # TRAPS 5
    z = torch.from_numpy(np.random.default_rng(5).normal(size=(K, N, C)).astype(np.float32))
    exact = set(picked(BALD, 10, logits=z).indices.tolist())
    for kind, tensor in (("logits", z), ("log_probs", z.log_softmax(-1))):
        for half in (
            tensor.to(dtype),
            tensor.clone().requires_grad_().to(dtype),
            strided(tensor.to(dtype)),
        ):
            assert len(exact & set(picked(BALD, 10, **{kind: half}).indices.tolist())) >= 8
    with pytest.raises(errors.NotLogProbabilities, match="half precision"):
        picked(probs=z.softmax(-1).to(dtype))


@pytest.mark.parametrize(
    "kind", ["log_probs", "logits"]
)  # the first is passed on bit for bit: there memory could be shared
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nobody_writes_into_the_others_memory(dtype, kind):  # TRAPS 30
    tensor = torch.from_numpy(LOG_P).to(dtype, copy=True)
    before, available = tensor.clone(), np.arange(N) != 7
    seen = [picked(how, **{kind: tensor}, available=available) for how in (BATCH, BALD)]
    assert torch.equal(tensor, before)
    copies = jax.tree.map(np.array, seen)
    tensor.fill_(torch.nan)
    available[...] = False
    jax.tree.map(np.testing.assert_array_equal, seen, copies)


def test_lists_of_tensors_and_pools_of_examples():
    whole = picked(log_probs=list(torch.from_numpy(LOG_P)))
    assert whole.indices.tolist() == WANT.indices.tolist()
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    model = predictive.from_samples(logits=lambda x: jax.numpy.stack([x, -x]), num_draws=2)
    entropy = acquire.top(scores.entropy)
    there, here = (choose(0, model, pool, SIZE, entropy) for pool in (x, x.numpy()))
    assert there.indices.tolist() == here.indices.tolist()


def test_dropout_of_a_torch_net():
    """One way to fix draws: one mask a draw, the same for all rows."""
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    first, last = torch.nn.Linear(4, 16), torch.nn.Linear(16, C)
    masks = (torch.rand(K, 1, 16) < 0.5) * 2.0

    def predict(part):
        return last(first(torch.as_tensor(part)).relu()[None] * masks).log_softmax(-1)

    found = choose(0, predict, x.numpy(), SIZE, BATCH)
    assert found.indices.tolist() == picked(log_probs=predict(x)).indices.tolist()
    per_row = lambda part: last(
        torch.nn.functional.dropout(first(torch.as_tensor(part)).relu().expand(K, -1, -1))
    ).log_softmax(-1)
    with pytest.raises(errors.DrawsDiffer):
        predictive.from_samples(per_row, K, host=True).checked(x.numpy())


def test_what_is_no_dense_array_of_floats_is_refused_by_name():
    cases = {
        "sparse": torch.from_numpy(LOG_P).to_sparse(),
        "without numbers": torch.empty(K, N, C, device="meta"),
        "integers": torch.ones(K, N, C, dtype=torch.int64),
        "complex": torch.from_numpy(LOG_P).to(torch.complex64),
        "two axes": torch.from_numpy(LOG_P[0]),
    }
    for tensor in cases.values():
        with pytest.raises(errors.WrongShape, match="`logits`") as caught:
            picked(logits=tensor)
        assert caught.value.argument == "logits"
