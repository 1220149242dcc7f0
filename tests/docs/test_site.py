"""mkdocs.yml and docs/api: all pages are in the navigation, all public names in the reference."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import rebar

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MODULES = {
    name: "show_submodules: true" in options
    for page in (DOCS / "api").glob("*.md")
    for name, options in re.findall(r"^::: (\S+)\n((?: +.*\n)*)", page.read_text(), re.MULTILINE)
}
"""Module -> whether its submodules are on the page, too."""


def test_every_page_is_in_the_navigation():
    pages = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(pages) == sorted(str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md"))


@pytest.mark.parametrize("module", MODULES)
def test_a_documented_module_exists(module):
    assert find_spec(module) is not None


@pytest.mark.parametrize("name", rebar.__all__)
def test_every_public_name_is_in_the_reference(name):
    home = rebar._HOMES[name].partition(":")[0]
    packages = {package for package, all_of_it in MODULES.items() if all_of_it}
    assert home in MODULES or any(home.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *DOCS.glob("*.md")]), ids=str)
def test_fences_are_closed(page):
    assert len(re.findall(r"^```", page.read_text(), re.MULTILINE)) % 2 == 0
