"""Publishing, with real git: bare repositories, clones, and others who push in between."""

import subprocess
from pathlib import Path

import pytest

from calico_lab.errors import HostError, WikiError
from calico_lab.wiki import page_name, publish

TITLE = "Calico(vxlan) Cross-CSP 설치 검토"
NAME = "Calico(vxlan)-Cross-CSP-설치-검토"
QUOTED = "Calico%28vxlan%29-Cross-CSP-%EC%84%A4%EC%B9%98-%EA%B2%80%ED%86%A0"
MARK = "<!-- Written by calico_lab: the next report replaces this page. -->\n\n"


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(autouse=True)
def author(tmp_path_factory, monkeypatch):
    """Git knows this person and nothing else of the machine's settings."""
    home = tmp_path_factory.mktemp("home")
    config = (
        "[user]\nname = Tester\nemail = tester@example.org\n[init]\ndefaultBranch = master\n[core]\nquotePath = false\n"
    )
    (home / ".gitconfig").write_text(config)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in ("XDG_CONFIG_HOME", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    return home / ".gitconfig"


@pytest.fixture
def bare(tmp_path):
    """An empty wiki somewhere else."""
    git(tmp_path, "init", "--quiet", "--bare", "wiki.git")
    return tmp_path / "wiki.git"


@pytest.fixture
def page(tmp_path):
    """A report with two pictures."""
    pictures = tmp_path / "outputs" / "report_files"
    pictures.mkdir(parents=True)
    (pictures / "figure-1.png").write_bytes(b"one")
    (pictures / "figure-2.png").write_bytes(b"two")
    path = tmp_path / "outputs" / "report.md"
    path.write_text(
        "# 검토\n\n![a \\] b](report_files/figure-1.png)\n\n![c](report_files/figure-2.png)\n\n"
        "![logo](https://example.org/logo.png) [text](other.md)\n",
        encoding="utf-8",
    )
    return path


def files(repository, commit="HEAD"):
    """Content by path of what is committed."""
    names = git(repository, "ls-tree", "-r", "-z", "--name-only", commit).split("\0")
    return {name: git(repository, "show", f"{commit}:{name}") for name in names if name}


def clone(bare, folder):
    git(folder.parent, "clone", "--quiet", str(bare), str(folder))
    return folder


def commit(tree, name, text):
    (tree / name).write_text(text)
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message=theirs")


# ---------------------------------------------------------------------- what is written


def test_an_empty_wiki_gets_the_page_its_pictures_and_a_home(bare, page):
    published = publish(page, str(bare), title=TITLE, message="Review cross-vxlan")
    assert (published.changed, published.page) == (True, f"{NAME}.md")
    assert published.commit == git(bare, "rev-parse", "HEAD")
    assert files(bare) == {
        f"{NAME}.md": f"{MARK}# 검토\n\n![a \\] b](images/{QUOTED}/figure-1.png)\n\n"
        f"![c](images/{QUOTED}/figure-2.png)\n\n"
        "![logo](https://example.org/logo.png) [text](other.md)",
        "Home.md": f"* [{TITLE}]({QUOTED})",
        f"images/{NAME}/figure-1.png": "one",
        f"images/{NAME}/figure-2.png": "two",
    }
    assert git(bare, "log", "--format=%an %s") == "Tester Review cross-vxlan"


@pytest.mark.parametrize("address", [str, Path.as_uri], ids=["path", "file-url"])
def test_publishing_again_commits_nothing(bare, page, address):
    publish(page, address(bare), title=TITLE, message="first")
    again = publish(page, address(bare), title=TITLE, message="second")
    assert (again.changed, again.page, again.commit) == (False, f"{NAME}.md", None)
    assert git(bare, "log", "--format=%s") == "first"


def test_a_page_is_updated_in_place_without_its_stale_pictures(bare, page):
    publish(page, str(bare), title=TITLE, message="first")
    page.write_text("# 새 글\n\n![a](report_files/figure-1.png)\n", encoding="utf-8")
    publish(page, str(bare), title=TITLE, message="second")
    assert sorted(files(bare)) == [f"{NAME}.md", "Home.md", f"images/{NAME}/figure-1.png"]
    assert files(bare)[f"{NAME}.md"].startswith(f"{MARK}# 새 글")


def test_other_pages_stay_as_they_are(bare, page, tmp_path):
    theirs = clone(bare, tmp_path / "theirs")
    commit(theirs, "_Sidebar.md", "side")
    git(theirs, "push", "--quiet", "origin", "HEAD")
    publish(page, str(bare), title=TITLE, message="first")
    publish(page, str(bare), title="Other", message="second")
    assert files(bare)["_Sidebar.md"] == "side"
    assert "Home.md" not in files(bare)
    assert f"images/{NAME}/figure-1.png" in files(bare)
    assert "images/Other/figure-1.png" in files(bare)


def test_a_page_of_somebody_else_is_refused(bare, page, tmp_path):
    theirs = clone(bare, tmp_path / "theirs")
    commit(theirs, "Notes.md", "by hand")
    git(theirs, "push", "--quiet", "origin", "HEAD")
    with pytest.raises(WikiError) as error:
        publish(page, str(bare), title="Notes", message="m")
    assert str(error.value) == f"{bare}: Notes.md: somebody else wrote this page; choose another title"
    assert files(bare) == {"Notes.md": "by hand"}


# ---------------------------------------------------------------------- work trees


def test_a_work_tree_gets_a_commit_of_our_files_alone_and_no_push(bare, page, tmp_path):
    tree = clone(bare, tmp_path / "tree")
    commit(tree, "Notes.md", "committed")
    (tree / "Notes.md").write_text("changed")
    (tree / "staged.md").write_text("staged")
    git(tree, "add", "staged.md")
    (tree / "new.md").write_text("new")
    published = publish(page, str(tree), title="Review", message="m")
    assert published.commit == git(tree, "rev-parse", "HEAD")
    assert git(tree, "show", "--format=", "--name-only").splitlines() == [
        "Review.md",
        "images/Review/figure-1.png",
        "images/Review/figure-2.png",
    ]
    assert git(tree, "status", "--porcelain").splitlines() == ["M Notes.md", "A  staged.md", "?? new.md"]
    assert git(bare, "branch") == ""


def test_a_work_tree_has_its_stale_pictures_removed(bare, page, tmp_path):
    tree = clone(bare, tmp_path / "tree")
    publish(page, str(tree), title="Review", message="first")
    page.write_text("no pictures\n")
    publish(page, str(tree), title="Review", message="second")
    assert sorted(files(tree)) == ["Home.md", "Review.md"]
    assert git(tree, "status", "--porcelain") == ""


def test_a_folder_inside_another_repository_is_not_the_wiki(bare, page, tmp_path):
    tree = clone(bare, tmp_path / "tree")
    (tree / "outputs").mkdir()
    with pytest.raises(WikiError) as error:
        publish(page, str(tree / "outputs"), title="Review", message="m")
    assert str(error.value) == (
        f"{tree}/outputs: not a wiki's work tree; seen: inside of {tree}; clone the wiki there, or name its address"
    )


def test_a_folder_that_is_no_repository_is_refused(page, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WikiError) as error:
        publish(page, str(tmp_path / "folder"), title="Review", message="m")
    assert str(error.value) == (
        f"{tmp_path}/folder: not a wiki's work tree; "
        "seen: not a git repository (or any of the parent directories): .git; clone the wiki there, or name its address"
    )


def test_inside_a_git_hook_it_still_means_the_wiki(bare, page, tmp_path, monkeypatch):
    other = tmp_path / "other.git"
    git(tmp_path, "init", "--quiet", "--bare", "other.git")
    monkeypatch.setenv("GIT_DIR", str(other))
    publish(page, str(bare), title="Review", message="m")
    monkeypatch.delenv("GIT_DIR")
    assert "Review.md" in files(bare)


# ---------------------------------------------------------------------- others push in between


@pytest.fixture
def others_push(bare, tmp_path, monkeypatch):
    """Every clone made from now on has a hook that pushes somebody else's commit first, the first `times` times."""
    theirs = clone(bare, tmp_path / "theirs")
    commit(theirs, "Notes.md", "0")
    git(theirs, "push", "--quiet", "origin", "HEAD")

    def arrange(times):
        hook = tmp_path / "template" / "hooks" / "pre-push"
        hook.parent.mkdir(parents=True)
        hook.write_text(
            "#!/bin/sh\n"
            f'cd "{theirs}" || exit 1\n'
            "unset $(git rev-parse --local-env-vars)\n"
            "count=$(cat Notes.md)\n"
            f"[ $count -lt {times} ] || exit 0\n"
            "echo $((count + 1)) > Notes.md\n"
            "git commit --quiet --all --message=theirs && git push --quiet origin HEAD\n"
        )
        hook.chmod(0o755)
        monkeypatch.setenv("GIT_TEMPLATE_DIR", str(hook.parent.parent))

    return arrange


@pytest.mark.parametrize("times", [1, 2])
def test_a_push_in_between_is_kept_and_ours_comes_after_it(bare, page, others_push, times):
    others_push(times)
    published = publish(page, str(bare), title="Review", message="ours")
    assert git(bare, "rev-parse", "HEAD") == published.commit
    assert git(bare, "log", "--format=%s").splitlines() == ["ours", *["theirs"] * (times + 1)]
    assert files(bare)["Notes.md"] == str(times)


def test_after_three_pushes_in_between_it_gives_up(bare, page, others_push):
    others_push(3)
    with pytest.raises(WikiError) as error:
        publish(page, str(bare), title="Review", message="ours")
    assert str(error.value) == f"{bare}: others pushed in between 3 times; publish again later"
    assert "Review.md" not in files(bare)


def test_a_refused_push_is_told_and_not_repeated(bare, page, tmp_path):
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f'#!/bin/sh\necho >> "{tmp_path}/pushes"\nexit 1\n')
    hook.chmod(0o755)
    with pytest.raises(WikiError) as error:
        publish(page, str(bare), title="Review", message="m")
    assert str(error.value) == (
        f"{bare}: git push failed; seen: [remote rejected] HEAD -> master (pre-receive hook declined); "
        "check the address, and that git reaches it without asking"
    )
    assert (tmp_path / "pushes").read_text() == "\n"


# ---------------------------------------------------------------------- what goes wrong


def test_a_repository_that_is_not_there(page, tmp_path):
    with pytest.raises(WikiError) as error:
        publish(page, f"file://{tmp_path}/nothing.git", title="Review", message="m")
    assert str(error.value) == (
        f"file://{tmp_path}/nothing.git: git clone failed; "
        f"seen: '{tmp_path}/nothing.git' does not appear to be a git repository; "
        "check the address, and that git reaches it without asking"
    )


def test_no_network_and_no_password_in_the_message(page):
    """Port 1 of this machine: nobody listens."""
    with pytest.raises(WikiError) as error:
        publish(page, "http://user:secret@127.0.0.1:1/wiki.git", title="Review", message="m")
    assert str(error.value).startswith(
        "http://127.0.0.1:1/wiki.git: git clone failed; seen: unable to access 'http://127.0.0.1:1/wiki.git/': "
        "Failed to connect to 127.0.0.1 port 1"
    )
    assert "secret" not in str(error.value)


def test_ssh_says_why(page, monkeypatch):
    monkeypatch.setenv("GIT_SSH_COMMAND", "echo 'git@example.org: Permission denied (publickey).' >&2; exit 255;")
    with pytest.raises(WikiError) as error:
        publish(page, "git@example.org:wiki.git", title="Review", message="m")
    assert str(error.value) == (
        "git@example.org:wiki.git: git clone failed; seen: git@example.org: Permission denied (publickey).; "
        "check the address, and that git reaches it without asking"
    )


def test_an_unknown_author_is_told_what_to_run(bare, page, author):
    author.write_text("[init]\ndefaultBranch = master\n")
    with pytest.raises(WikiError) as error:
        publish(page, str(bare), title="Review", message="m")
    assert str(error.value) == (
        f"{bare}: git does not know who commits; "
        "run: git config --global user.name NAME && git config --global user.email ADDRESS"
    )


def test_git_is_not_installed(bare, page, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError) as error:
        publish(page, str(bare), title="Review", message="m")
    assert str(error.value) == "git is not installed; run: sudo apt-get install git"


def test_a_missing_page_is_named(bare, tmp_path):
    with pytest.raises(WikiError) as error:
        publish(tmp_path / "report.md", str(bare), title="Review", message="m")
    assert str(error.value) == f"{tmp_path}/report.md: no such page; write the report first"


def test_a_missing_picture_is_named(bare, page):
    (page.parent / "report_files" / "figure-2.png").unlink()
    with pytest.raises(WikiError) as error:
        publish(page, str(bare), title="Review", message="m")
    assert str(error.value) == (
        f"{page}: a picture is missing; seen: report_files/figure-2.png; write the report again"
    )


# ---------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("title", "name"),
    [
        pytest.param(TITLE, NAME, id="korean"),
        pytest.param('a/b\\c:d*e?f"g<h>i|j', "a-b-c-d-e-f-g-h-i-j", id="forbidden"),
        pytest.param("  a \t\n b. ", "a-b", id="spaces-and-dot"),
        pytest.param("a -- b", "a-b", id="dashes"),
        pytest.param("../../etc/passwd", "etc-passwd", id="way-out"),
        pytest.param("\u1100\u1161", "가", id="decomposed"),
        pytest.param("v3.22", "v3.22", id="version"),
    ],
)
def test_page_name(title, name):
    assert page_name(title) == name


@pytest.mark.parametrize(
    ("title", "message"),
    [
        pytest.param("?", "title: this title cannot be a page; seen: ?; choose another title", id="nothing-left"),
        pytest.param("Home", "title: this title cannot be a page; seen: Home; choose another title", id="home"),
        pytest.param(
            "_Sidebar", "title: this title cannot be a page; seen: _Sidebar; choose another title", id="sidebar"
        ),
        pytest.param("con", "title: Windows reserves this name; seen: con; choose another title", id="device"),
        pytest.param("Aux.1", "title: Windows reserves this name; seen: Aux.1; choose another title", id="device-dot"),
        pytest.param(
            "가" * 85,
            f"title: this title is too long; seen: {'가' * 85}; choose one of 80 characters or fewer",
            id="too-long",
        ),
    ],
)
def test_a_title_that_is_no_page_name(title, message):
    with pytest.raises(WikiError) as error:
        page_name(title)
    assert str(error.value) == message
