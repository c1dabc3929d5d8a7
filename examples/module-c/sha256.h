// SHA-256 (FIPS 180-4) of a file, so that the example needs no library but libmosquitto.
#include <stdio.h>

// sha256_file writes the digest of the first size bytes of f as 64 lower-case hexadecimal digits and a NUL.
// It returns 0, or -1 if the file is shorter or cannot be read.
int sha256_file(FILE *f, unsigned long long size, char hex[65]);
