"""From a notebook to a document. Each execution costs seconds: most tests look at one report."""

import http.server
import json
import re
import shutil
import subprocess
import threading
from html import escape
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from calico_lab import report
from calico_lab.errors import ParameterError, ReportError

LONG = "66:f6:10:93:e0:06 dev vxlan.calico dst 54.64.9.64 self permanent " * 3

CELLS = [
    new_code_cell('scenario = "none"  # name of a scenario\nlanguage = "ko"', metadata={"tags": ["parameters"]}),
    new_markdown_cell("# Calico(vxlan) Cross-CSP 설치 검토\n\n> 시나리오 `cross-vxlan`"),
    new_code_cell(
        "import pandas as pd\nfrom matplotlib.figure import Figure\n"
        "from IPython.display import Markdown, display\nfrom calico_lab.page import Page\npage = Page(language)"
    ),
    new_markdown_cell("## 개요\n\n* 본문 `ping` [링크](https://github.com/itnpeople/cbctl)"),
    new_code_cell('Markdown(f"### 시나리오 {scenario}")'),
    new_markdown_cell("## 결과 <기타>\n\n### [주요](https://www.tigera.io) `route`\n\n### 같은 제목\n\n## 같은 제목"),
    new_code_cell(
        'page.table(pd.DataFrame({"node": ["c-1-h43jk"] * 2, "result": ["pass", "fail"], '
        '"installed": [True, None], "ping": [False, None], "path": ["Cross-CSP"] * 2, "backend": ["VXLAN"] * 2, '
        f'"evidence": [{LONG!r}, "<none> a|b"]}}))'
    ),
    new_code_cell(f"page.raw({LONG * 3!r}, 'c-1 `bridge fdb`')"),
    new_code_cell('for name in ("첫째", "둘째"):\n    display(page.figure(Figure(), f"{name} *그림*"))'),
    new_code_cell("import sys\nprint('본 것 <b>', file=sys.stdout)\nprint('경고', file=sys.stderr)"),
]


def write_notebook(path, cells):
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def progress():
    return []


@pytest.fixture(scope="module")
def written(tmp_path_factory, progress):
    """A report in a folder whose name has what papermill takes for a placeholder."""
    folder = tmp_path_factory.mktemp("{report}")
    notebook = write_notebook(folder / "review.ipynb", CELLS)
    return report.write(
        notebook,
        {"scenario": "cross-vxlan"},
        folder / "outputs",
        language="ko",
        title="Calico <검토>",
        progress=lambda *step: progress.append(step),
    )


@pytest.fixture(scope="module")
def html(written):
    return written.html.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def markdown(written):
    return written.markdown.read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


class TestWrite:
    def test_leaves_the_report_and_nothing_else(self, written):
        folder = written.notebook.parent
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        assert files == [
            "report.html",
            "report.ipynb",
            "report.md",
            "report_files/figure-1.png",
            "report_files/figure-2.png",
        ]

    def test_parameters_arrive_and_defaults_stay(self, markdown):
        assert "### 시나리오 cross-vxlan" in markdown

    def test_the_notebook_holds_no_path_of_this_machine(self, written):
        assert str(written.notebook.parent.parent) not in written.notebook.read_text(encoding="utf-8")

    def test_progress_names_heading_and_cell(self, progress):
        assert progress[0] == ("", 1, 10)
        assert ("개요", 4, 10) in progress
        assert progress[-1] == ("결과 <기타>", 10, 10)


class TestHtml:
    def test_is_korean_and_titled(self, html):
        assert Tags(html).of("html") == [{"lang": "ko"}]
        assert "<title>Calico &lt;검토&gt;</title>" in html

    def test_has_no_code_and_no_prompt(self, html):
        assert "import pandas" not in html
        assert "In [" not in html
        assert "Out[" not in html

    def test_contents_stand_between_the_first_block_and_the_first_chapter(self, html):
        order = ["<h1", "<blockquote>", "<nav", "</nav>", "<h2"]
        assert sorted(order, key=html.index) == order

    def test_contents_nest(self, html):
        contents = "<nav" + html.partition("<nav")[2].partition("</nav>")[0]
        assert re.sub(r">\s+<", "><", contents).strip() == (
            '<nav aria-label="목차"><p>목차</p><ol>'
            '<li><a href="#개요">개요</a><ol>'
            '<li><a href="#시나리오-cross-vxlan">시나리오 cross-vxlan</a></li></ol></li>'
            '<li><a href="#결과-기타">결과 &lt;기타&gt;</a><ol>'
            '<li><a href="#주요-route">주요 <code>route</code></a></li>'
            '<li><a href="#같은-제목">같은 제목</a></li></ol></li>'
            '<li><a href="#같은-제목-2">같은 제목</a></li></ol>'
        )

    def test_every_contents_entry_leads_to_one_heading(self, html):
        tags = Tags(html)
        anchors = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
        assert len(set(anchors)) == len(anchors)
        assert {link["href"] for link in tags.of("a") if link["href"].startswith("#")} <= {f"#{a}" for a in anchors}

    def test_pictures_have_text_and_size(self, html):
        pictures = [{**image, "src": image["src"][:22]} for image in Tags(html).of("img")]
        assert pictures == [
            {"src": "data:image/png;base64,", "alt": f"{name} *그림*", "width": "614", "height": "461"}
            for name in ("첫째", "둘째")
        ]

    def test_loads_nothing(self, html):
        tags = Tags(html)
        assert {tag for tag, _ in tags.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"} == set()
        loaded = [
            value for _, attributes in tags.tags for name, value in attributes.items() if name in ("src", "srcset")
        ]
        assert [value for value in loaded if not value.startswith("data:")] == []
        assert {tag for tag, attributes in tags.tags if "href" in attributes} == {"a"}
        assert re.findall(r"url\(|@import", html) == []

    def test_stdout_is_shown_and_stderr_is_not(self, html):
        assert "<pre>본 것 &lt;b&gt;\n</pre>" in html
        assert "경고" not in html


class TestMarkdown:
    def test_is_this(self, markdown):
        table = markdown[markdown.index("| 노드") : markdown.index("c-1 `bridge")]
        assert table.splitlines()[0] == "| 노드 | 결과 | 설치 | `ping` | 경로 | 라우팅 | 근거 |"
        assert markdown.replace(table, "TABLE\n\n").replace(LONG * 3, "RAW\n") == (
            "# Calico(vxlan) Cross-CSP 설치 검토\n\n> 시나리오 `cross-vxlan`\n\n"
            "## 개요\n\n* 본문 `ping` [링크](https://github.com/itnpeople/cbctl)\n\n"
            "### 시나리오 cross-vxlan\n\n"
            "## 결과 <기타>\n\n### [주요](https://www.tigera.io) `route`\n\n### 같은 제목\n\n## 같은 제목\n\n"
            "TABLE\n\n"
            "c-1 `bridge fdb`\n\n```\nRAW\n\n```\n\n"
            "![첫째 \\*그림\\*](report_files/figure-1.png)\n\n*첫째 \\*그림\\**\n\n"
            "![둘째 \\*그림\\*](report_files/figure-2.png)\n\n*둘째 \\*그림\\**\n\n"
            "```\n본 것 <b>\n```\n"
        )

    def test_pictures_are_those_of_the_notebook(self, written):
        pictures = sorted((written.notebook.parent / "report_files").iterdir())
        assert [picture.read_bytes()[:8] for picture in pictures] == [b"\x89PNG\r\n\x1a\n"] * 2


def test_exports_depend_on_the_notebook_alone(written, html, markdown):
    executed = nbformat.read(written.notebook, as_version=4)
    assert report.html(executed) == html
    text, pictures = report.markdown(executed)
    assert text == markdown
    assert {name: (written.notebook.parent / name).read_bytes() for name in pictures} == pictures


# ---------------------------------------------------------------------- what goes wrong


def leave_old_report(folder):
    """What an earlier run left, among it a picture that the next one does not make."""
    (folder / "report_files").mkdir(parents=True)
    for name in ("report.ipynb", "report.html", "report.md", "report-failed.ipynb", "report_files/figure-9.png"):
        (folder / name).write_text("old")


def left(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


PARAMETERS = new_code_cell("scenario = 'none'", metadata={"tags": ["parameters"]})


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        pytest.param(
            [new_markdown_cell("# T"), PARAMETERS, new_code_cell("1"), new_code_cell("{}['first\\nsecond']")],
            "n.ipynb: cell 4 failed; seen: KeyError: 'first\\nsecond'; see {folder}/report-failed.ipynb",
            id="exception",
        ),
        pytest.param(
            [PARAMETERS, new_code_cell("raise ValueError('first\\nsecond')")],
            "n.ipynb: cell 2 failed; seen: second; see {folder}/report-failed.ipynb",
            id="exception-of-two-lines",
        ),
        pytest.param(
            [PARAMETERS, new_code_cell("import os; os._exit(3)")],
            "n.ipynb: cell 2 failed; seen: Kernel died; see {folder}/report-failed.ipynb",
            id="kernel-dies",
        ),
    ],
)
def test_a_failed_cell_leaves_the_run_to_look_at_and_no_report(tmp_path, cells, message):
    notebook = write_notebook(tmp_path / "n.ipynb", cells)
    folder = tmp_path / "outputs"
    leave_old_report(folder)
    with pytest.raises(ReportError) as error:
        report.write(notebook, {"scenario": "x"}, folder, language="ko", title="T")
    assert str(error.value) == message.format(folder=folder)
    assert left(folder) == ["report-failed.ipynb"]
    assert 'scenario = \\"x\\"' in (folder / "report-failed.ipynb").read_text(encoding="utf-8")


def test_an_interruption_leaves_nothing(tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    notebook = write_notebook(tmp_path / "n.ipynb", [PARAMETERS])
    folder = tmp_path / "outputs"
    leave_old_report(folder)
    with pytest.raises(KeyboardInterrupt):
        report.write(notebook, {}, folder, language="ko", title="T", progress=interrupt)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        pytest.param(
            [PARAMETERS],
            "n.ipynb: the notebook declares no parameter scenarios, did you mean scenario?; allowed: scenario",
            id="misspelled",
        ),
        pytest.param(
            [],
            "n.ipynb: the notebook declares no parameter scenarios; allowed: none, it has no cell tagged parameters",
            id="no-parameters",
        ),
    ],
)
def test_an_unknown_parameter_is_refused_before_anything_is_touched(tmp_path, cells, message):
    notebook = write_notebook(tmp_path / "n.ipynb", cells)
    leave_old_report(tmp_path / "outputs")
    before = left(tmp_path)
    with pytest.raises(ParameterError) as error:
        report.write(notebook, {"scenarios": "x"}, tmp_path / "outputs", language="ko", title="T")
    assert str(error.value) == message
    assert left(tmp_path) == before


def test_a_missing_notebook_is_named(tmp_path):
    with pytest.raises(ReportError) as error:
        report.write(tmp_path / "n.ipynb", {}, tmp_path, language="ko", title="T")
    assert str(error.value) == f"{tmp_path}/n.ipynb: no such notebook; name a notebook that exists"


def test_what_is_no_notebook_is_named(tmp_path):
    (tmp_path / "n.ipynb").write_text("hello")
    with pytest.raises(ReportError) as error:
        report.write(tmp_path / "n.ipynb", {}, tmp_path, language="ko", title="T")
    assert str(error.value) == f"{tmp_path}/n.ipynb: not a notebook; open it in Jupyter and save it"


# ---------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Open a page and return the document after its scripts have run."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium: sudo apt-get install chromium fonts-nanum")
    profile = tmp_path_factory.mktemp("chromium")

    def open_page(page):
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={profile}",
            "--window-size=1300,900",
            "--dump-dom",
            page.as_uri(),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    return open_page


def without_policy(page):
    text, removed = re.subn(r"<meta [^>]*Content-Security-Policy[^>]*>", "", page)
    assert removed == 1
    return text


@pytest.mark.parametrize("width", [1200, 400])
def test_nothing_overflows_the_page(html, browse, tmp_path, width):
    """In a frame of that width: a window of Chromium's is at least 500 pixels wide."""
    measure = (
        "<script>parent.document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth,"
        "...[...document.querySelectorAll('.table, pre, figure')].map(e => e.getBoundingClientRect().right)])</script>"
    )
    framed = escape(without_policy(html).replace("</body>", f"{measure}</body>"))
    page = tmp_path / "page.html"
    page.write_text(f'<title></title><iframe style="border: 0" width="{width}" srcdoc="{framed}"></iframe>')
    seen_width, content, *rights = json.loads(re.search(r"<title>(.*?)</title>", browse(page))[1])
    assert seen_width == width
    assert content <= width
    assert len(rights) == 5
    assert max(rights) <= width


@pytest.fixture
def visits():
    """Address of a web server and the paths that were asked of it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("policy", "asked_for"),
    [
        pytest.param(True, [], id="as-it-is"),
        # Without this the other could pass because the browser never got as far.
        pytest.param(False, ["/frame", "/image", "/script", "/style"], id="without-its-policy"),
    ],
)
def test_a_browser_loads_nothing_even_if_an_output_asks_for_it(written, browse, visits, tmp_path, policy, asked_for):
    address, asked = visits
    executed = nbformat.read(written.notebook, as_version=4)
    hostile = (
        f"<img src='{address}/image'><script src='{address}/script'></script><iframe src='{address}/frame'></iframe>"
        f"<style>p {{ background: url({address}/style) }}</style>"
    )
    executed.cells.append(new_code_cell(outputs=[nbformat.v4.new_output("display_data", {"text/html": hostile})]))
    text = report.html(executed)
    page = tmp_path / "page.html"
    page.write_text(text if policy else without_policy(text))
    browse(page)
    assert sorted(set(asked)) == asked_for
