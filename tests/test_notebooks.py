"""The notebooks: house rules for all of them, and that `explore` runs. The others run in their own tests."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from calico_lab import report

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
EXPLORE = NOTEBOOKS / "explore.ipynb"


@pytest.fixture(params=sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


class TestHouseRules:
    def test_is_valid(self, notebook: NotebookNode) -> None:
        nbformat.validate(notebook)

    def test_has_at_most_15_code_cells(self, notebook: NotebookNode) -> None:
        assert len(code(notebook)) <= 15

    def test_defines_no_function_and_no_class(self, notebook: NotebookNode) -> None:
        definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        trees = [ast.parse(cell.source) for cell in code(notebook)]
        assert [node for tree in trees for node in ast.walk(tree) if isinstance(node, definitions)] == []

    def test_is_stored_without_outputs(self, notebook: NotebookNode) -> None:
        assert [cell.id for cell in code(notebook) if cell.outputs or cell.execution_count is not None] == []

    def test_has_one_cell_of_parameters_typed_and_explained(self, notebook: NotebookNode) -> None:
        tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        assert len(tagged) == 1
        assert {type(statement) for statement in ast.parse(tagged[0].source).body} == {ast.AnnAssign}

    def test_names_its_kernel_but_no_version(self, notebook: NotebookNode) -> None:
        assert notebook.metadata == {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }


def test_explore_shows_tables_findings_and_a_figure(tmp_path: Path) -> None:
    written = report.write(EXPLORE, {}, tmp_path, language="ko", title="explore")
    executed = nbformat.read(written.notebook, as_version=4)
    shown = [output for cell in code(executed) for output in cell.outputs]
    assert [output.output_type for output in shown] == ["execute_result"] * len(shown)
    assert sum("text/html" in output.data for output in shown) == 7
    assert sum("image/png" in output.data for output in shown) == 1
    assert "cause='outer-source'" in "".join(output.data["text/plain"] for output in shown)


@pytest.mark.lab
def test_explore_runs_a_command_on_a_live_node(tmp_path: Path) -> None:
    parameters = {"live": True, "scenario": "single-vxlan"}
    written = report.write(EXPLORE, parameters, tmp_path, language="ko", title="explore")
    assert "default via 192.168.10.1 dev eth0" in written.markdown.read_text(encoding="utf-8")
