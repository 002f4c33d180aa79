"""Modules of torch as predictives: masks that all rows share, nothing of the caller's changed."""

import warnings

import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from bayesal import acquire, choose, errors, pools, scores, testing
from bayesal.predictive import from_torch

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow
nn = torch.nn
from_torch = oracles.as_users_do(from_torch)

X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(12, 2, 4, 4)).astype(np.float32)


def net(*layers, inputs=6, width=16):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, width), *layers, nn.Linear(width, 3))


def snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}, [
        part.training for part in module.modules()
    ]


def test_a_draw_is_one_function_of_x():
    samples = from_torch(net(nn.ReLU(), nn.Dropout(0.5)), num_draws=20).checked(X)
    whole = samples(X)
    assert whole.shape == (20, 40, 3) and samples.log_probs(X).shape == (40, 3)
    np.testing.assert_allclose(
        whole, np.concatenate([samples(X[:7]), samples(X[7:])], axis=1), atol=1e-5
    )
    np.testing.assert_allclose(np.exp(whole).sum(-1), 1.0, atol=1e-5)
    assert np.ptp(np.asarray(whole), axis=0).max() > 0.1
    assert testing.check_predictive(samples, X, batch=3).passed


def test_draws_are_those_of_the_masks_by_hand():
    module = net(nn.Dropout(0.4))
    first, last = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy())
        for layer in (module[0], module[2])
    )
    hidden = X @ first[0].T + first[1]
    logits = np.asarray(from_torch(module, num_draws=3000)(X[:4]))
    p = np.exp(logits)
    assert np.isfinite(p).all()
    # the mean over masks of the logits is that without dropout; log-probabilities differ by one
    # constant per row and draw
    centered = (logits - logits.mean(-1, keepdims=True)).mean(0)
    clean = hidden[:4] @ last[0].T + last[1]
    np.testing.assert_allclose(centered, clean - clean.mean(-1, keepdims=True), atol=0.06)
    kept = {tuple(np.round(row, 4)) for row in logits[:50, 0]}
    assert len(kept) == 50  # every draw has its own mask


def test_one_layer_called_twice_has_two_masks():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(6, 3)
            self.seen = []

        def forward(self, x):
            a, b = self.drop(torch.ones_like(x)), self.drop(torch.ones_like(x))
            self.seen.append((a[0], b[0], a[1]))
            return self.last(x)

    module = Twice()
    from_torch(module, num_draws=30, copy=False)(X)
    assert all(torch.equal(a, a_other_row) for a, _, a_other_row in module.seen)
    assert any(not torch.equal(a, b) for a, b, _ in module.seen)
    assert {float(v) for a, b, _ in module.seen for v in torch.cat([a, b])} == {0.0, 2.0}


def test_whole_channels_drop_out_and_batch_norm_uses_its_running_statistics():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(32, 3)
    )
    module(torch.from_numpy(IMAGES))  # some statistics
    before = snapshot(module)
    for copy in (True, False):
        samples = from_torch(module, num_draws=8, copy=copy).checked(IMAGES)
        samples(IMAGES)
    after = snapshot(module)
    assert (
        all(torch.equal(a, b) for a, b in zip(before[0].values(), after[0].values(), strict=True))
        and before[1] == after[1]
    )
    seen = []
    module[3].register_forward_pre_hook(lambda part, given: seen.append(given[0].clone()))
    from_torch(module, num_draws=8, copy=False)(IMAGES)
    dropped = (torch.stack(seen) == 0).flatten(3)  # [K, n, channels, places]
    assert (dropped.all(-1) == dropped.any(-1)).all() and 0.2 < dropped.float().mean() < 0.8
    assert torch.equal(dropped[:, :1].expand_as(dropped), dropped)


@pytest.mark.parametrize("layer", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_dropout_keeps_mean_and_variance(layer):
    module = nn.Sequential(nn.Identity(), layer(0.3), nn.Flatten())
    x = np.random.default_rng(0).normal(size=(4, 4000, 1)).astype(np.float32)
    out = []
    module.register_forward_hook(lambda part, given, output: out.append(output) or output[:, :2])
    from_torch(module, num_draws=5, copy=False)(x)
    values = torch.cat(out)
    assert abs(float(values.mean())) < 0.05 and abs(float(values.var()) - 1) < 0.05


def test_training_on_changes_a_reference_and_not_a_copy():
    module = net(nn.Dropout(0.5))
    copied, referred = from_torch(module, num_draws=4), from_torch(module, num_draws=4, copy=False)
    before = np.asarray(copied(X))
    np.testing.assert_array_equal(before, referred(X))
    with torch.no_grad():
        module[0].weight.mul_(2)
    np.testing.assert_array_equal(before, copied(X))
    assert np.abs(before - referred(X)).max() > 1e-3


def test_nothing_of_the_callers_is_written_to():
    x = np.abs(X) - 1
    module = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True), nn.Linear(6, 3))
    given, state = x.copy(), torch.get_rng_state()
    from_torch(module, num_draws=3)(x)
    from_torch(module, num_draws=3)(jnp.asarray(x))
    np.testing.assert_array_equal(x, given)
    assert torch.equal(torch.get_rng_state(), state) and module.training and torch.is_grad_enabled()
    assert torch.backends.mha.get_fastpath_enabled()


def test_every_pool_takes_it():
    x = np.random.default_rng(2).normal(size=(1500, 6)).astype(np.float32)
    samples = from_torch(net(nn.ReLU(), nn.Dropout(0.5)), num_draws=12, embed="3")
    strategy = acquire.batch_bald(candidates=100)
    want = choose(0, samples, x, 4, strategy).indices
    for pool in (lambda: iter([x]), pools.sharded(x)):
        np.testing.assert_array_equal(choose(0, samples, pool, 4, strategy).indices, want)
    assert samples.embed(x).shape == (1500, 16)
    assert len(set(choose(0, samples, x, 4, acquire.k_center()).indices.tolist())) == 4


def test_features_are_what_goes_into_the_last_layer():
    module = net(nn.ReLU(), nn.Dropout(0.5))
    expected = torch.relu(module[0](torch.from_numpy(X))).detach().numpy()
    np.testing.assert_allclose(
        from_torch(module, num_draws=2, embed="3").embed(X), expected, atol=1e-6
    )
    with pytest.raises(errors.UnknownName, match="`embed`") as caught:
        from_torch(module, num_draws=2, embed="fc")
    assert caught.value.argument == "embed"


def test_an_ensemble_is_its_modules():
    modules = [net(nn.ReLU(), nn.Dropout(0.5)) for _ in range(3)]
    for i, module in enumerate(modules):
        with torch.no_grad():
            module[0].weight.add_(i)
    expected = np.stack(
        [torch.log_softmax(m.eval()(torch.from_numpy(X)), -1).detach().numpy() for m in modules]
    )
    np.testing.assert_allclose(from_torch(modules)(X), expected, atol=1e-5)
    np.testing.assert_allclose(
        from_torch(nn.ModuleList(modules), num_draws=3)(X), expected, atol=1e-5
    )
    with pytest.raises(errors.WrongSize, match="exactly 3") as caught:
        from_torch(modules, num_draws=5)
    assert caught.value.argument == "num_draws"
    with pytest.raises(errors.WrongSize, match="at least two"):
        from_torch(modules[:1])


def test_what_the_numbers_are_is_said():
    soft = nn.Sequential(net(nn.Dropout(0.5)), nn.Softmax(-1))
    log = nn.Sequential(net(nn.Dropout(0.5)), nn.LogSoftmax(-1))
    np.testing.assert_allclose(
        from_torch(probs=soft, num_draws=3)(X), from_torch(log_probs=log, num_draws=3)(X), atol=1e-5
    )
    with pytest.raises(errors.NotLogProbabilities):
        from_torch(log_probs=soft, num_draws=3)(X)
    with pytest.raises(errors.NotLogProbabilities):
        from_torch(probs=log, num_draws=3)(X)


def test_an_encoder_drops_out_although_torch_would_fuse_it():
    torch.manual_seed(0)

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoderLayer(
                8, 2, 16, dropout=0.5, batch_first=batch_first
            )
            self.last = nn.Linear(8, 3)

        def forward(self, x):
            x = x if batch_first else x.transpose(0, 1)
            return self.last(self.encoder(x).mean(1 if batch_first else 0))

    tokens = np.random.default_rng(0).normal(size=(5, 7, 8)).astype(np.float32)
    batch_first = True
    with pytest.warns(UserWarning, match=r"encoder\.self_attn"):
        samples = from_torch(Encoder(), num_draws=6)
    assert np.ptp(np.asarray(samples.checked(tokens)(tokens)), axis=0).max() > 0.05
    batch_first = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        samples = from_torch(Encoder(), num_draws=6)
    with pytest.raises(errors.WrongShape, match="batch_first") as caught:
        samples(tokens)
    assert caught.value.argument == "logits"


def test_what_cannot_be_drawn_is_refused():
    class Functional(nn.Module):
        dropout = 0.5

        def forward(self, x):
            return nn.functional.dropout(x, self.dropout, self.training)[:, :3]

    for module in (Functional(), net(nn.ReLU()), net(nn.Dropout(0.0))):
        with pytest.raises(errors.ConstantScores, match=r"nn\.Dropout") as caught:
            from_torch(module, num_draws=3)
        assert caught.value.argument == "logits"
    with pytest.warns(UserWarning, match="stays off"):
        from_torch(nn.Sequential(nn.Dropout(0.1), Functional()), num_draws=3)
    with pytest.raises(errors.WrongType, match="from_samples"):
        from_torch(lambda x: x, num_draws=3)
    with pytest.raises(errors.WrongShape, match="tuple"):
        from_torch(nn.Sequential(nn.Dropout(0.5), nn.GRU(6, 3)), num_draws=2)(X)
    with pytest.raises(errors.WrongSize, match="`num_draws`"):
        from_torch(net(nn.Dropout(0.5)))

    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(6, 3)

        def forward(self, x):
            return self.last(x)

    with pytest.raises(errors.ConstantScores, match="not called"):
        from_torch(Unused(), num_draws=2)(X)


def test_whole_numbers_stay_whole():
    module = nn.Sequential(nn.Embedding(9, 8), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 3))
    tokens = np.random.default_rng(0).integers(0, 9, (5, 3))
    assert from_torch(module, num_draws=4).checked(tokens)(tokens).shape == (4, 5, 3)


def test_eight_devices_call_back_one_after_the_other():
    pool = np.random.default_rng(2).normal(size=(100, 6)).astype(np.float32)
    samples = from_torch(net(nn.ReLU(), nn.Dropout(0.5), nn.Dropout(0.1)), num_draws=12)
    spread = pools.sharded(pool).map(samples, lambda model, x: scores.bald(model(x)))
    np.testing.assert_allclose(spread, scores.bald(samples(pool)), atol=1e-5)


def test_half_precision_and_gradients_come_through():
    module = net(nn.ReLU(), nn.Dropout(0.5)).to(torch.bfloat16)
    log_probs = from_torch(module, num_draws=3)(X)
    assert log_probs.dtype == jnp.float32 and np.isfinite(log_probs).all()
