"""Run a notebook without Jupyter: its code cells, in order, in one namespace.

    python -m tests.helpers.notebooks experiments/tutorial.ipynb    # run it and keep the outputs

Printed text, the value of a cell's last line and figures become outputs in the notebook's format (nbformat 4).
"""

import ast
import base64
import io
import json
import os
import sys
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory


def code_cells(notebook):
    """Return the code cells of a notebook."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def run_notebook(path, folder):
    """Run a notebook's code cells in a folder; return the notebook with outputs, and the names that they define."""
    import matplotlib

    matplotlib.use("Agg")
    notebook = json.loads(Path(path).read_text())
    names = {"__name__": "__main__"}
    with chdir(folder):
        sys.path.insert(0, "")
        for number, cell in enumerate(code_cells(notebook), 1):
            cell["outputs"], cell["execution_count"] = run_cell("".join(cell["source"]), names, number), number
        sys.path.remove("")
    return notebook, names


def run_cell(source, names, number):
    """Run one cell; returns its outputs."""
    tree = ast.parse(source, filename=f"cell {number}")
    shows_value = tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";")
    last = tree.body.pop() if shows_value else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text.splitlines(keepends=True)})
    if value is not None:
        data = {"text/plain": repr(value)[:2000].splitlines(keepends=True)}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = [value._repr_html_()]
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": data})
    return outputs + figures()


def figures():
    """Return the open figures as outputs, and close them."""
    from matplotlib import pyplot

    outputs = []
    for number in pyplot.get_fignums():
        file = io.BytesIO()
        pyplot.figure(number).savefig(file, format="png", dpi=80, bbox_inches="tight")
        picture = base64.b64encode(file.getvalue()).decode()
        outputs.append({"output_type": "display_data", "metadata": {}, "data": {"image/png": picture}})
    pyplot.close("all")
    return outputs


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    file = Path(sys.argv[1]).resolve()
    with TemporaryDirectory() as work:
        done, _ = run_notebook(file, work)
    file.write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n")
