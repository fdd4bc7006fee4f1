"""The stubs, examples, licences and data of the package."""

import ast
import doctest
import importlib
import inspect
import pkgutil
from importlib.metadata import distribution
from pathlib import Path

import pytest

import seeward
from seeward import _native

MODULES = ["seeward", *(f"seeward.{module.name}" for module in pkgutil.iter_modules(seeward.__path__))]


def parameters(definition, is_method):
    """Names and whether they have defaults, as in a stub."""
    arguments = definition.args
    names = [argument.arg for argument in arguments.args][int(is_method) :]
    required = len(names) - len(arguments.defaults)
    found = [(name, index >= required) for index, name in enumerate(names)]
    return found + ([(arguments.kwarg.arg, True)] if arguments.kwarg else [])


def signature(function, is_method):
    given = list(inspect.signature(function).parameters.values())[int(is_method) :]
    return [(p.name, p.default is not p.empty or p.kind is p.VAR_KEYWORD) for p in given]


def test_the_stubs_are_those_of_the_module():
    stub = ast.parse((Path(seeward.__file__).parent / "_native.pyi").read_text())
    described = {item.name: item for item in stub.body if isinstance(item, (ast.ClassDef, ast.FunctionDef))}
    assert described.keys() == {name for name in vars(_native) if not name.startswith("__")}
    for name, item in described.items():
        real = getattr(_native, name)
        if isinstance(item, ast.FunctionDef):
            assert parameters(item, False) == signature(real, False), name
            continue
        members = {member.name: member for member in item.body if isinstance(member, ast.FunctionDef)}
        public = {member for member in vars(real) if not member.startswith("__")}
        assert members.keys() - {"__new__"} == public, name
        for member, definition in members.items():
            if definition.decorator_list:
                assert inspect.isgetsetdescriptor(getattr(real, member)), member
            elif member == "__new__":
                assert parameters(definition, True) == signature(real, False), name
            else:
                assert parameters(definition, True) == signature(getattr(real, member), True), f"{name}.{member}"


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name, workplace):
    module = importlib.import_module(name)
    done = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert done.failed == 0
    assert module.__doc__ or name == "seeward._native", f"{name} has no documentation"


def test_there_are_examples():
    counted = [doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)) for name in MODULES]
    assert sum(len(test.examples) > 0 for tests in counted for test in tests) >= 5


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_is_documented(name):
    module = importlib.import_module(name)
    for attribute, value in vars(module).items():
        is_own = getattr(value, "__module__", None) == name and not attribute.startswith("_")
        assert not is_own or inspect.getdoc(value), f"{name}.{attribute}"


def test_licences_of_what_is_bundled_are_in_the_package():
    package = distribution("seeward")
    files = {Path(str(file)).name: file for file in package.files}
    for name in ("LICENSE", "ThirdPartyNotices.txt", "RustNotices.txt", "py.typed"):
        assert name in files, name
    notices = files["RustNotices.txt"].read_text()
    for crate in ("pyo3", "tokenizers", "ort"):
        assert f"\n{crate} " in notices, crate
    assert package.requires and all("extra ==" in requirement for requirement in package.requires)


def test_an_evaluation_is_shown_in_a_notebook(workplace):
    row = '{"prompt": "q", "img_path": "photos/1.png", "chosen": "Blue.", "rejected": "Red."}\n'
    Path("pairs.jsonl").write_text(row)
    report = seeward.evaluate("bundles/mine", {"mine": "pairs.jsonl"}, text_only_model="bundles/mine", output="report")
    assert report["sets"]["mine"]["pairs"] == 1 and report["text_only_model"] == "bundles/mine"
    assert report._repr_html_().startswith("<iframe srcdoc=") and "&lt;html" in report._repr_html_()
    assert Path("report/report.html").read_text() == report.page
    with pytest.raises(seeward.SeewardError, match="none.jsonl"):
        seeward.evaluate("bundles/mine", {"mine": "none.jsonl"})
