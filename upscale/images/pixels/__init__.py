"""Operations on pixel arrays: alpha, colour and bit depth."""
