"""Real torch tensors through the door, where torch is installed: every dtype, layout and axis
order, and nobody writes into the other's memory.
"""

import jax
import numpy as np
import oracles
import pytest

from bayesal import backend, errors, scores, select

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

K, N, C, SIZE = 6, 30, 3, 4
LOG_P, P = oracles.random_log_probs(0, (K, N, C))
WANT = select.batch_bald(jax.random.key(0), LOG_P, SIZE)
choose = oracles.as_users_do(backend.choose)


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
    choice = choose(**{kind: tensor}, size=SIZE)
    assert choice.indices.tolist() == WANT.indices.tolist()
    np.testing.assert_allclose(choice.scores, WANT.scores, atol=2e-5)
    assert choice.indices.dtype == np.int64 and all(
        type(leaf) is np.ndarray for leaf in jax.tree.leaves(choice.selection)
    )
    assert torch.equal(tensor.detach(), before)


@pytest.mark.parametrize("axes", ["K N C", "K C N", "N K C", "N C K", "C K N", "C N K"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_axes_come_in_any_order(axes, dtype):
    tensor = torch.from_numpy(LOG_P).to(dtype).permute(["KNC".index(a) for a in axes.split()])
    plain = tensor.permute([axes.split().index(a) for a in "KNC"]).float().numpy()
    for given in (tensor, tensor.contiguous(), tensor.clone().requires_grad_()):
        picked = choose(logits=given, axes=axes, size=SIZE).indices.tolist()
        assert picked == choose(logits=plain, size=SIZE).indices.tolist()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):  # TRAPS 5
    z = torch.from_numpy(np.random.default_rng(5).normal(size=(K, N, C)).astype(np.float32))
    exact = choose(logits=z, size=10, method="bald").indices
    for kind, tensor in (("logits", z), ("log_probs", z.log_softmax(-1))):
        for half in (
            tensor.to(dtype),
            tensor.clone().requires_grad_().to(dtype),
            strided(tensor.to(dtype)),
        ):
            assert (
                len(set(choose(**{kind: half}, size=10, method="bald").indices) & set(exact)) >= 8
            )
    with pytest.raises(errors.NotProbabilities, match="half precision"):
        choose(probs=z.softmax(-1).to(dtype), size=SIZE)


@pytest.mark.parametrize(
    "kind", ["log_probs", "logits"]
)  # the first is passed on bit for bit: there memory could be shared
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_nobody_writes_into_the_others_memory(dtype, kind):  # TRAPS 30
    tensor, available = torch.from_numpy(LOG_P).to(dtype, copy=True), torch.arange(N) != 7
    before, kept = tensor.clone(), []

    def method(log_probs):
        kept.append(log_probs)
        return scores.bald(log_probs)

    seen = [
        choose(**{kind: tensor}, size=SIZE, available=available, method=how)
        for how in ("batch_bald", method)
    ]
    assert len(kept) == 1 and torch.equal(tensor, before)
    copies = jax.tree.map(np.array, (seen, kept))
    tensor.fill_(torch.nan)
    available.fill_(False)
    jax.tree.map(np.testing.assert_array_equal, (seen, kept), copies)

    tensor.copy_(before)
    for leaf in jax.tree.leaves(seen):
        if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
            leaf.fill(0)
    assert torch.equal(tensor, before)


def test_masks_ids_and_lists_of_tensors():
    mask = torch.arange(N) % 2 == 0
    choice = choose(log_probs=torch.from_numpy(LOG_P), size=SIZE, available=mask)
    assert mask[torch.from_numpy(choice.indices)].all()  # the answer indexes torch as it comes
    assert (
        choose(log_probs=list(torch.from_numpy(LOG_P)), size=SIZE).indices.tolist()
        == WANT.indices.tolist()
    )
    records = choice.to_records(ids=[f"point {i}" for i in range(N)])
    assert records[0]["id"] == f"point {choice.indices[0]}" and isinstance(
        records[0]["score"], float
    )


def test_dropout_of_a_torch_net():
    """The README's way to fix draws: one mask a draw, from the key, the same for all rows."""
    x = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    first, last = torch.nn.Linear(4, 16), torch.nn.Linear(16, C)

    def predict(part, key):
        torch.manual_seed(int(jax.random.bits(key)))
        masks = (torch.rand(K, 1, 16) < 0.5) * 2.0
        return last(first(part).relu()[None] * masks).log_softmax(-1)  # with its graph

    choice = choose(predict=predict, x=x, size=SIZE, chunk=8)
    whole = predict(x, jax.random.split(jax.random.key(0))[0])
    want = choose(log_probs=whole, size=SIZE)
    assert choice.indices.tolist() == want.indices.tolist()
    per_row = lambda part, key: last(
        torch.nn.functional.dropout(first(part).relu().expand(K, -1, -1))
    ).log_softmax(-1)
    with pytest.raises(errors.DrawsDiffer):
        choose(predict=per_row, x=x, size=SIZE, chunk=8)


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
            choose(logits=tensor, size=SIZE)
        assert caught.value.argument == "logits"
