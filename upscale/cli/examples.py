"""Examples of help pages: a command line, and what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Example = tuple[str, str]

EXAMPLES: Mapping[str, Sequence[Example]] = {
    "upscale": (
        ("upscale photo.jpg", "Write photo_x4.jpg, four times as wide and as high."),
        ("upscale photo.jpg large.png --scale 2.5", "Choose the output and the size."),
        ("upscale scans/ -o upscaled/ -r", "Upscale a folder and its subfolders."),
        ("upscale photo.jpg -n realesr-general-x4v3 --denoise 0.5", "Use another network."),
        ("upscale video clip.mp4 large.mp4", "Upscale a video."),
        ("upscale help video", "Show the help of a command."),
    ),
    "upscale video": (
        ("upscale video clip.mp4 --preview", "Write clip_preview.png to check the result first."),
        ("upscale video clip.mp4 large.mp4 --scale 2", "Upscale a video by a factor of 2."),
        ("upscale video clip.mp4 large.mkv --codec x265 --crf 18", "Choose codec and quality."),
        ("upscale video clip.mp4 part.mp4 --start 1:00 --end 1:30", "Upscale a part."),
        ("upscale video clips/ -o large/ -r --skip-existing", "Upscale a folder of videos."),
        ("upscale video clip.mp4 large.mp4 --estimate", "Estimate the time and the size."),
        ("upscale video frames/ out.mp4 --fps 24 --for web", "Make a video of numbered images."),
    ),
    "upscale app": (
        ("upscale app", "Open the page in a browser."),
        ("upscale app -o results/ --port 8000", "Save results to a folder, on a fixed port."),
    ),
    "upscale compare": (
        ("upscale compare photo.jpg photo_x4.jpg -o page.html", "Compare before and after."),
    ),
    "upscale models": (
        ("upscale models", "List the networks."),
        ("upscale models info realesrgan-x4plus", "Show scale, source and licence."),
        ("upscale models pull realesrgan-x2plus", "Download a network now."),
        ("upscale models import mine.pth", "Use a network of your own by name."),
        ("upscale models export mine.pth -o mine.onnx", "Write it for another program."),
    ),
    "upscale eval": (
        ("upscale eval big/ --reference originals/", "Measure images against their originals."),
        ("upscale eval models A B --on photos/", "Compare networks on your photos."),
        ("upscale eval metrics", "List the metrics."),
    ),
    "upscale dataset": (
        ("upscale dataset scan photos/ --smallest 400 -o usable.txt", "List usable images."),
        ("upscale dataset crop photos/ -o crops/", "Cut large images into small ones."),
        ("upscale dataset noise photos/ -o noise/", "Cut out the noise of a camera."),
    ),
    "upscale degrade": (
        ("upscale degrade photo.jpg --samples 4 -o grid.png", "See what a network trains on."),
        ("upscale degrade --dataset set photos/ --scale 4", "Make a test set."),
    ),
    "upscale train": (
        ("upscale train --recipes", "List the recipes."),
        ("upscale train mine.yaml", "Train, or resume an interrupted training."),
    ),
    "upscale bench": (
        ("upscale bench", "Measure the usual networks."),
        ("upscale bench realesrgan-x4plus --device cuda:0", "Measure one network on a GPU."),
    ),
    "upscale doctor": (
        ("upscale doctor", "Check everything and upscale a test image."),
        ("upscale doctor --quick", "Leave out the test image."),
    ),
}
"""Examples by command."""
