"""What a notebook cell displays."""

import base64
import io
import string

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from calico_lab.page import LANGUAGES, Page, catalogue


@pytest.fixture(params=LANGUAGES)
def page(request):
    return Page(request.param)


@pytest.fixture
def korean():
    return Page("ko")


def placeholders(text):
    return sorted({name for _, name, _, _ in string.Formatter().parse(text) if name is not None})


class TestCatalogue:
    def test_languages_have_the_same_keys(self):
        assert sorted(catalogue("ko")) == sorted(catalogue("en"))

    @pytest.mark.parametrize("key", sorted(catalogue("ko")))
    def test_languages_have_the_same_placeholders(self, key):
        assert placeholders(catalogue("ko")[key]) == placeholders(catalogue("en")[key])

    def test_a_text_is_never_empty(self, page):
        assert [key for key, text in catalogue(page.language).items() if not text.strip()] == []

    def test_placeholders_are_filled(self):
        assert Page("en").words("plot.latency.lost", lost=3, sent=10) == "✘ lost 3/10"

    def test_an_unknown_key_names_the_nearest(self, korean):
        with pytest.raises(KeyError) as error:
            korean.words("column.nodee")
        assert error.value.args == ("words/ko.yaml has no key column.nodee, did you mean column.node?",)

    def test_a_missing_value_names_key_and_placeholder(self, korean):
        with pytest.raises(KeyError) as error:
            korean.words("plot.latency.lost", sent=10)
        assert error.value.args == ("words/ko.yaml: plot.latency.lost needs a value for 'lost'",)

    def test_an_unknown_language_names_those_there_are(self):
        with pytest.raises(KeyError) as error:
            Page("fr")
        assert error.value.args == ("no catalogue for language 'fr', there are: ko, en",)

    def test_a_text_is_markdown(self, korean):
        block = korean.text("table.empty")
        assert block.data == {"text/markdown": "해당 없음", "text/plain": "해당 없음"}
        assert repr(block) == "해당 없음"


def rows(block):
    """Cells of the Markdown table below its heading and rule."""
    lines = [line for line in block.data["text/markdown"].splitlines() if line.startswith("|")]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines[2:]]


class TestVerdict:
    def test_is_a_box_in_html_and_a_line_in_markdown(self, korean):
        block = korean.verdict({"installed": True, "ping": False, "cause": "<없음>"}, "**결과** — 설치 O")
        assert block.data["text/html"].splitlines() == [
            '<dl class="verdict">',
            "<div><dt>설치</dt><dd>O</dd></div>",
            "<div><dt><code>ping</code></dt><dd>X</dd></div>",
            "<div><dt>원인</dt><dd>&lt;없음&gt;</dd></div>",
            "</dl>",
        ]
        assert block.data["text/markdown"] == "**결과** — 설치 O"


class TestTable:
    def test_is_the_review_documents_table(self, korean):
        frame = pd.DataFrame(
            {
                "topology": ["Cross-CSP", "Single-CSP"],
                "backend": ["BGP", "VXLAN"],
                "node_ip": ["private-ip", "private-ip"],
                "installed": [False, True],
                "ping": pd.array([None, True], dtype="boolean"),
                "note": ["calico/node (0/1)", None],
            }
        )
        assert korean.table(frame).data["text/markdown"] == (
            "| CSP | 라우팅 | IPv4Address | 설치 | `ping` | 비고 |\n"
            "| --- | --- | --- | :---: | :---: | --- |\n"
            "| Cross-CSP | BGP | private-ip | X | . | calico/node (0/1) |\n"
            "| Single-CSP | VXLAN | private-ip | O | O | . |"
        )

    def test_html_is_semantic_and_may_scroll(self):
        block = Page("en").table(pd.DataFrame({"node": ["c-1"], "mtu_bytes": [1410]}), "table.empty")
        assert block.data["text/html"] == (
            '<div class="table" tabindex="0">\n'
            "<table>\n"
            "<caption>None</caption>\n"
            '<thead><tr><th scope="col" class="short">Node</th>'
            '<th scope="col" class="number">MTU (bytes)</th></tr></thead>\n'
            "<tbody>\n"
            '<tr><td class="short">c-1</td><td class="number">1410</td></tr>\n'
            "</tbody>\n"
            "</table>\n"
            "</div>"
        )

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            pytest.param(None, ".", id="None"),
            pytest.param(float("nan"), ".", id="NaN"),
            pytest.param(pd.NA, ".", id="NA"),
            pytest.param(pd.NaT, ".", id="NaT"),
            pytest.param(True, "O", id="true"),
            pytest.param(np.False_, "X", id="numpy-false"),
            pytest.param(0, "0", id="zero"),
            pytest.param(8951, "8951", id="int"),
            pytest.param(0.123456, "0.123", id="small-float"),
            pytest.param(12345.6, "12346", id="large-float"),
            pytest.param(["a", None], "a, .", id="list"),
            pytest.param("", "", id="empty-text"),
        ],
    )
    def test_values(self, korean, value, shown):
        assert rows(korean.table(pd.DataFrame({"note": pd.Series([value], dtype=object)}))) == [[shown]]

    @pytest.mark.parametrize(
        ("text", "markdown", "html"),
        [
            pytest.param("a|b", r"a\|b", "a|b", id="pipe"),
            pytest.param("`a|b`", r"`a\|b`", "<code>a|b</code>", id="pipe-in-code"),
            pytest.param("<none>", "&lt;none>", "&lt;none&gt;", id="tag"),
            pytest.param("`<none>`", "`<none>`", "<code>&lt;none&gt;</code>", id="tag-in-code"),
            pytest.param("&lt;", "&amp;lt;", "&amp;lt;", id="entity"),
            pytest.param("*a* _b_ c_d", r"\*a\* \_b\_ c_d", "*a* _b_ c_d", id="emphasis"),
            pytest.param("$A ~b~ [c]", r"\$A \~b\~ \[c\]", "$A ~b~ [c]", id="math-strike-link"),
            pytest.param("a\\b", r"a\\b", "a\\b", id="backslash"),
            pytest.param("one ` tick", r"one \` tick", "one ` tick", id="lone-backtick"),
            pytest.param("a\nb", "a<br>b", "a<br>b", id="lines"),
        ],
    )
    def test_text_is_escaped(self, korean, text, markdown, html):
        block = korean.table(pd.DataFrame({"note": [text]}))
        assert block.data["text/markdown"].splitlines()[2] == f"| {markdown} |"
        assert f'<td class="short">{html}</td>' in block.data["text/html"]

    def test_a_result_has_a_symbol_and_a_word(self, korean):
        frame = pd.DataFrame({"result": ["pass", "fail", "skip", "error", None]})
        assert rows(korean.table(frame)) == [["✔ 통과"], ["✘ 실패"], ["– 건너뜀"], ["! 오류"], ["."]]

    def test_results_differ_without_colour(self, page):
        shown = [page.words(f"result.{result}") for result in ("pass", "fail", "skip", "error")]
        assert len({text.split()[0] for text in shown}) == 4
        assert len({text.split()[1] for text in shown}) == 4

    def test_an_unknown_result_is_an_error(self, korean):
        with pytest.raises(KeyError) as error:
            korean.table(pd.DataFrame({"result": ["passed"]}))
        assert error.value.args == ("words/ko.yaml has no key result.passed, did you mean result.pass?",)

    def test_an_unknown_column_is_an_error(self, korean):
        with pytest.raises(KeyError) as error:
            korean.table(pd.DataFrame({"node_addres": []}))
        assert error.value.args == ("words/ko.yaml has no key column.node_addres, did you mean column.node_address?",)

    def test_columns_choose_and_order(self, korean):
        frame = pd.DataFrame({"private": [0], "node": ["c-1"], "mtu_bytes": [1410]})
        assert rows(korean.table(frame, columns=["mtu_bytes", "node"])) == [["1410", "c-1"]]

    def test_no_rows_say_so(self, korean):
        block = korean.table(pd.DataFrame({"node": [], "reason": []}))
        assert rows(block) == [["해당 없음", ""]]
        assert '<td class="empty" colspan="2">해당 없음</td>' in block.data["text/html"]

    def test_caption_stands_before_the_pipe_table(self, korean):
        frame = pd.DataFrame({"node": ["c-1"]})
        block = korean.table(frame, "plot.latency.lost", lost=1, sent=2)
        assert block.data["text/markdown"] == "**✘ 손실 1/2**\n\n| 노드 |\n| --- |\n| c-1 |"

    def test_long_text_may_break_into_lines(self, korean):
        assert '<td class="text">' in korean.table(pd.DataFrame({"reason": ["x" * 25]})).data["text/html"]


class TestFigure:
    def test_is_drawn_at_twice_the_pixels_it_is_shown_at(self, korean):
        block = korean.figure(Figure(figsize=(3, 2)), "alt")
        height, width, _ = imread(io.BytesIO(base64.b64decode(block.data["image/png"]))).shape
        assert (width, height) == (576, 384)
        assert block.metadata == {"image/png": {"alt": "alt", "caption": "alt", "width": 288, "height": 192}}

    def test_caption_may_differ_from_alt(self, korean):
        block = korean.figure(Figure(), "alt", "caption")
        assert (block.metadata["image/png"]["alt"], block.metadata["image/png"]["caption"]) == ("alt", "caption")

    def test_equal_figures_are_equal_bytes(self, korean):
        first, second = (korean.figure(Figure(), "alt").data["image/png"] for _ in range(2))
        assert first == second

    def test_the_figure_is_freed(self, korean):
        figure = Figure()
        figure.subplots()
        korean.figure(figure, "alt")
        assert figure.axes == []


class TestRaw:
    def test_short_text_is_shown(self, korean):
        block = korean.raw("a <b> & c\n", "c-1 `route`")
        assert block.data == {
            "text/html": '<div class="raw">\n<p class="title">c-1 <code>route</code></p>\n'
            "<pre>a &lt;b&gt; &amp; c</pre>\n</div>",
            "text/markdown": "c-1 `route`\n\n```\na <b> & c\n```",
            "text/plain": "c-1 `route`\na <b> & c",
        }

    @pytest.mark.parametrize(("lines", "element"), [(24, "div"), (25, "details")])
    def test_long_text_is_folded(self, korean, lines, element):
        assert korean.raw("x\n" * lines, "title").data["text/html"].startswith(f'<{element} class="raw">')

    def test_a_fence_is_longer_than_any_inside(self, korean):
        assert korean.raw("````\nx", "title").data["text/markdown"] == "title\n\n`````\n````\nx\n`````"
