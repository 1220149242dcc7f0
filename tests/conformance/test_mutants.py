"""Mutations are valid programs: one that cannot be read would count as noticed."""

import ast
import collections

from tests.conformance.mutants import choose


def changed(mutation):
    text = mutation.file.read_bytes()
    return text[: mutation.start] + mutation.new.encode() + text[mutation.end :]


def test_each_is_another_program():
    mutations = choose(300, seed=1)
    for mutation in mutations:
        trees = [ast.dump(ast.parse(t)) for t in (mutation.file.read_bytes(), changed(mutation))]
        assert trees[0] != trees[1], mutation
    counts = collections.Counter(mutation.kind for mutation in mutations)
    assert set(counts) == {
        *("arguments", "comparison", "constant", "index"),
        *("operator", "reduction", "sign", "stop_gradient"),
    }
    assert len({(m.file, m.start, m.end, m.new) for m in mutations}) == len(mutations)


def test_the_seed_chooses_them():
    assert choose(20, seed=1) == choose(20, seed=1) != choose(20, seed=2)
    assert {m.file.stem for m in choose(5, seed=0, only="core/bounds")} == {"bounds"}
