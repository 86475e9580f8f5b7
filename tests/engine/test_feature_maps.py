from __future__ import annotations

import torch

from upscale.engine.feature_maps import MAX_SPARE, FeatureMaps

CPU = torch.device("cpu")


def test_feature_maps_are_offloaded_to_a_file_and_no_further():
    feature_maps = FeatureMaps(CPU, torch.float32)
    assert feature_maps.placement == "host"
    assert feature_maps.allocate(2, 3, 4).shape == (2, 3, 4)
    assert feature_maps.offload()
    assert feature_maps.placement == "file"
    assert feature_maps.allocate(2, 3, 4).shape == (2, 3, 4)
    assert not feature_maps.offload()


def test_freed_buffers_of_nearly_the_same_size_are_reused():
    feature_maps = FeatureMaps(CPU, torch.bfloat16)
    first = feature_maps.allocate(10, 5, 4)
    places = {first.data_ptr()}
    feature_maps.recycle(first)
    assert feature_maps.allocate(4, 5, 4).data_ptr() not in places  # too small for it
    assert feature_maps.allocate(11, 5, 4).data_ptr() not in places
    second = feature_maps.allocate(3, 15, 4)
    assert second.data_ptr() in places and second.shape == (3, 15, 4)
    assert feature_maps.allocate(3, 15, 4).data_ptr() not in places  # taken
    feature_maps.recycle(second)
    assert feature_maps.allocate(10, 5, 4).data_ptr() in places  # its whole size is remembered


def test_few_buffers_are_kept_and_none_after_offloading():
    feature_maps = FeatureMaps(CPU, torch.float32)
    given = [feature_maps.allocate(10, 5, 4) for _ in range(MAX_SPARE + 3)]
    places = [feature_map.data_ptr() for feature_map in given]
    for feature_map in given:
        feature_maps.recycle(feature_map)
    again = [feature_maps.allocate(10, 5, 4) for _ in range(MAX_SPARE)]
    assert {feature_map.data_ptr() for feature_map in again} == set(places[3:])
    feature_maps.recycle(again[0])
    feature_maps.offload()
    feature_maps.recycle(feature_maps.allocate(10, 5, 4))
    assert feature_maps.allocate(10, 5, 4).data_ptr() not in places
