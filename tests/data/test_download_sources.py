"""Where `ensure` takes files from: folders, URLs of the user's choice; and mistakes in these."""

import dataclasses
import gzip

import pytest

from rebar.data import ensure, sources
from rebar.errors import RebarError

from .conftest import NAME, content_of


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("as_url", [False, True])
def test_local_sources(small, get, tmp_path_factory, zipped, flat, as_url):
    root = tmp_path_factory.mktemp("with space")
    folder = small.write(root, "binarized_mnist", zipped)
    base = folder if flat else root
    paths = get("binarized_mnist", source=base.as_uri() if as_url else base)
    for path in paths:
        name = path.name.removesuffix(".gz")
        assert content_of(path) == small.contents["binarized_mnist", name]


@pytest.mark.parametrize("prefix", ["/any/binarized_mnist/", "/any/"])
def test_http_sources_are_searched_like_folders(small, server, get, prefix):
    for (data_set, name), content in small.contents.items():
        if data_set == "binarized_mnist":
            server.files[f"{prefix}{name}.gz"] = gzip.compress(content)
    assert len(get("binarized_mnist", source=server.url + "/any")) == 3


def test_urls_replace_the_mirrors_of_one_data_set(one_file, server, get):
    server.files[f"/mine/{NAME}"] = one_file
    (path,) = get(urls={"mnist": f"{server.url}/mine/{NAME}"}, source="/not/used")
    assert server.requests == [f"/mine/{NAME}"]
    path.unlink()
    server.requests.clear()
    get(urls={"mnist": f"{server.url}/mine/"})
    assert server.requests == [f"/mine/{NAME}.gz", f"/mine/{NAME}"]


def test_the_environment_variable_replaces_the_mirrors_but_not_the_argument(
    one_file, server, get, monkeypatch
):
    server.files[f"/variable/{NAME}"] = one_file
    server.files[f"/argument/{NAME}"] = one_file
    monkeypatch.setenv("REBAR_DATA_SOURCE", f"{server.url}/variable")
    get()[0].unlink()
    assert server.requests[-1] == f"/variable/{NAME}"
    get(source=f"{server.url}/argument")
    assert server.requests[-1] == f"/argument/{NAME}"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"source": "ftp://host/x"}, "source 'ftp://host/x': must be a folder"),
        ({"source": "http:///x"}, "must be a folder"),
        ({"source": "file://otherhost/x"}, "must be a folder"),
        ({"source": "/no/such/folder"}, "source '/no/such/folder': must be"),
        ({"urls": {"minst": "http://x"}}, "unknown data set .*minst.*did you mean mnist"),
        ({"name": "minst"}, "unknown data set 'minst'; choose from binarized_mnist, mnist"),
    ],
)
def test_invalid_arguments(one_file, get, kwargs, message):
    with pytest.raises(RebarError, match=message):
        get(**kwargs)


def test_a_data_dir_that_is_a_file(one_file, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RebarError, match=r"cannot write into the data folder .*--data_dir="):
        ensure("mnist", tmp_path / "file", log=lambda line: None)


def test_other_omniglot_only_from_a_chosen_source_and_with_a_notice(
    small, server, get, lines, monkeypatch, tmp_path
):
    omniglot = sources.DATA_SETS["omniglot"]
    changed = dataclasses.replace(omniglot.files["chardata"], checksum="git-blob-sha1:" + "0" * 40)
    monkeypatch.setitem(
        sources.DATA_SETS,
        "omniglot",
        dataclasses.replace(omniglot, files={"chardata": changed}, mirrors=(server.url + "/o",)),
    )
    server.files["/o/chardata.mat"] = small.contents["omniglot", "chardata.mat"]
    with pytest.raises(RebarError, match="is not the published file"):
        get("omniglot")
    assert not any("NOTE" in line for line in lines)
    get("omniglot", source=server.url + "/o")
    assert "not comparable with published" in lines[-1]
    get("omniglot")
    assert "present" in lines[-1]
    assert "not comparable with published" in lines[-1]
    (tmp_path / "omniglot" / "chardata.mat").unlink()
    server.files["/o/chardata.mat"] = b"MATLAB 5.0 MAT-file".ljust(200)
    with pytest.raises(RebarError, match="is not a readable MATLAB 5 file"):
        get("omniglot", source=server.url + "/o")


def test_tasks_fetch_what_they_read(small, server, get):
    for (data_set, name), content in small.contents.items():
        server.files[f"/{data_set}/{name}"] = content

    def fetched(task, dynamic):
        return [p.name for p in get(task, source=server.url, dynamic=dynamic)]

    assert fetched("sp", True) == [
        "binarized_mnist_valid.amat",
        "binarized_mnist_test.amat",
        NAME,
    ]
    assert len(fetched("sbn", False)) == 3
    assert fetched("fashion", True) == [NAME, "t10k-images-idx3-ubyte"]
    assert fetched("omni", False) == ["chardata.mat"]
    assert fetched("digits", False) == []
