"""Operations on pixel arrays: alpha, colour, bit depth and orientation."""
