"""Noise is a function of seed, stream and position, the same in every mode, inside (0, 1)."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from rebar import noise
from rebar.errors import RebarError

KEY = noise.key(3, "latents", 5)

GOLDEN_KEY = [476252562, 1086430734]
GOLDEN_UNIFORMS = [0.7674220204353333, 0.6338716149330139, 0.31857186555862427]
GOLDEN_ORDER = [0, 7, 1, 2, 6, 5, 4, 3]


@pytest.mark.parametrize(
    "positions", [[()], [(0,), (1,), (2**20,)], [(0, 0), (0, 1), (1, 0)]], ids=len
)
def test_keys_differ_between_seeds_streams_and_positions(positions):
    seeds = [0, 1, 2**31, (0, 0), (0, 1), (1, 0), (0, 0, 0)]
    keys = {
        tuple(noise.key(seed, stream, *position))
        for seed, stream, position in itertools.product(seeds, noise.STREAMS, positions)
    }
    assert len(keys) == len(seeds) * len(noise.STREAMS) * len(positions)
    assert not np.array_equal(noise.key(0, "latents"), noise.key(0, "latents", 0))
    assert noise.key(0, "latents", 1).dtype == np.int32
    np.testing.assert_array_equal(noise.key(np.int64(7), "order", 1), noise.key(7, "order", 1))


def test_keys_are_those_of_earlier_versions():
    """Otherwise a run that resumes with a newer version would use other noise."""
    assert noise.key(0, "latents", 0).tolist() == GOLDEN_KEY
    values = noise.uniforms(noise.key(0, "latents", 0), [3])
    np.testing.assert_array_equal(values, np.array(GOLDEN_UNIFORMS, np.float32))
    assert noise.permutation(0, 0, 8).tolist() == GOLDEN_ORDER


def test_seeds_and_streams_that_cannot_be_used():
    for seed in (-1, (0, -1), 2**32, "x", 0.5, None):
        with pytest.raises(RebarError, match=r"seed=.*from 0 to 2\*\*32 - 1"):
            noise.key(seed, "latents")
    with pytest.raises(RebarError, match="unknown noise stream 'latent'; choose from latents"):
        noise.key(0, "latent")


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_uniforms_are_equal_in_every_mode(dtype):
    def draw(key):
        return noise.uniforms(key, [1000, 3], dtype)

    eager = draw(KEY)
    assert eager.dtype == dtype
    for jit in (False, True):
        compiled = tf.function(draw, jit_compile=jit, autograph=False)(tf.constant(KEY))
        np.testing.assert_array_equal(eager, compiled)


@pytest.mark.parametrize(("dtype", "bits"), [(tf.float32, 23), (tf.float64, 32)])
def test_uniforms_lie_inside_the_interval(dtype, bits, monkeypatch):
    """Also for the smallest and the largest word that the generator can return."""
    words = tf.constant([0, 2**32 - 1], tf.uint32)
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *_, **__: words)
    low, high = noise.uniforms(KEY, [2], dtype).numpy()
    assert low == 2.0 ** -(bits + 1)
    assert high == 1 - 2.0 ** -(bits + 1)
    assert 0 < low < high < 1


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_uniforms_are_uniform(dtype):
    """Kolmogorov-Smirnov, 10^6 draws: a deviation of .004 of the distribution is seen; p > 1e-7."""
    values = noise.uniforms(noise.key(1, "analysis"), [1_000_000], dtype).numpy()
    assert stats.kstest(values.astype(np.float64), "uniform").pvalue > 1e-7
    pairs = values.reshape(-1, 2).astype(np.float64)
    # Five standard errors of the correlation of 500,000 independent pairs.
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 5 / np.sqrt(len(pairs))


def test_more_along_the_first_axis_appends():
    long = noise.uniforms(KEY, [50, 4])
    for rows in (1, 7, 49):
        np.testing.assert_array_equal(noise.uniforms(KEY, [rows, 4]), long[:rows])


def test_latents():
    drawn = noise.latents(KEY, 3, 5, (4, 2), tf.float64)
    assert drawn.n_samples == 3
    assert [u.shape for u in drawn.uniforms] == [(15, 4), (15, 2)]
    assert drawn.uniforms[0].dtype == tf.float64
    together = np.concatenate([np.ravel(u) for u in drawn.uniforms])
    assert len(np.unique(together)) == 90
    np.testing.assert_array_equal(together, noise.uniforms(KEY, [90], tf.float64))


def test_branches_lead_from_each_layer_to_the_last():
    """branches[l][i] is of layer l + 1 + i, with a number for each row and unit."""
    main = noise.latents(KEY, 3, 5, (4, 2, 7), tf.float64)
    assert main.branches == ()
    branched = noise.with_branches(main, noise.key(3, "branches", 5))
    assert [[tuple(u.shape) for u in layer] for layer in branched.branches] == [
        [(15, 2), (15, 7)],
        [(15, 7)],
        [],
    ]
    assert branched.n_samples == 3
    assert branched.uniforms is main.uniforms
    tensors = tf.nest.flatten(branched.branches)
    assert {u.dtype for u in tensors} == {tf.float64}
    everything = np.concatenate([np.ravel(u) for u in (*main.uniforms, *tensors)])
    assert len(np.unique(everything)) == 15 * (4 + 2 + 7 + 2 + 7 + 7)
    assert np.all((everything > 0) & (everything < 1))


def test_branches_are_equal_in_every_mode():
    def draw(keys):
        drawn = noise.with_branches(noise.latents(keys[0], 2, 3, (2, 4, 1)), keys[1])
        return drawn.uniforms, drawn.branches

    keys = tf.constant(np.stack([KEY, noise.key(3, "branches", 5)]))
    eager = tf.nest.flatten(draw(keys))
    for jit in (False, True):
        compiled = tf.function(draw, jit_compile=jit, autograph=False)(keys)
        for a, b in zip(eager, tf.nest.flatten(compiled), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("branched", [False, True])
def test_another_number_of_samples_keeps_the_first(branched):
    """Samples that are not there are drawn, in every mode the same."""
    main = noise.latents(KEY, 3, 5, (4, 2), tf.float64)
    if branched:
        main = noise.with_branches(main, noise.key(3, "branches", 5))
    assert noise.with_samples(main, 3) is main
    tensors = tf.nest.flatten((main.uniforms, main.branches))
    for n_samples in (1, 2, 7):
        other = noise.with_samples(main, n_samples)
        assert other.n_samples == n_samples
        assert other.key is main.key
        tf.nest.assert_same_structure(other[::2], main[::2])
        rows, kept = 5 * n_samples, 5 * min(n_samples, 3)
        resized = tf.nest.flatten((other.uniforms, other.branches))
        for a, b in zip(resized, tensors, strict=True):
            assert (a.shape, a.dtype) == ((rows, b.shape[1]), b.dtype)
            np.testing.assert_array_equal(a[:kept], b[:kept])
        everything = np.concatenate([np.ravel(u) for u in resized])
        assert len(np.unique(everything)) == rows * (8 if branched else 6)
        for jit in (False, True):
            run = tf.function(noise.with_samples, jit_compile=jit, autograph=False)
            for a, b in zip(run(main._replace(n_samples=3), n_samples)[0], other[0], strict=True):
                np.testing.assert_array_equal(a, b)


def test_one_layer_has_no_branches():
    main = noise.latents(KEY, 1, 5, (4,))
    assert noise.with_branches(main, KEY).branches == ((),)


def test_branches_are_grouped_as_their_widths_are_listed():
    assert noise.branch_widths((4, 2, 7)) == [2, 7, 7]
    assert noise.branch_widths((4,)) == []
    assert noise.group_branches("abc", 3) == (("a", "b"), ("c",), ())
    assert noise.group_branches("abcdef", 4) == (("a", "b", "c"), ("d", "e"), ("f",), ())


def test_block_steps_depend_on_sizes_alone():
    assert noise.block_steps(1) == noise.MAX_BLOCK_STEPS
    assert noise.block_steps(24 * 400) == noise.MAX_BLOCK_STEPS
    assert noise.block_steps(10**9) == 1
    assert noise.block_steps(0) == noise.MAX_BLOCK_STEPS
    for elements in (1, 50_000, 123_456, 10**7):
        steps = noise.block_steps(elements)
        assert steps == 1 or steps * elements <= 4_000_000


def test_permutations():
    first = noise.permutation(4, 0, 1000)
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    np.testing.assert_array_equal(first, noise.permutation(4, 0, 1000))
    others = [noise.permutation(4, 1, 1000), noise.permutation((4, 0), 0, 1000)]
    for other in (*others, np.arange(1000)):
        assert np.mean(first == other) < 0.05


def test_initializer_seeds():
    seeds = {noise.initializer_seed(s, n) for s in (0, 1, (0, 1)) for n in ("q_0", "q_1", "p_0")}
    assert len(seeds) == 9
    assert all(isinstance(s, int) and 0 <= s < 2**32 for s in seeds)
    assert noise.initializer_seed(0, "q_0") == noise.initializer_seed(0, "q_0")


def test_numpy_stream_is_numpy_s():
    expected = np.random.RandomState(5).uniform(size=3)
    np.testing.assert_array_equal(noise.numpy_stream(5).uniform(size=3), expected)
