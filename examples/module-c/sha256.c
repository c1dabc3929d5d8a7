#include "sha256.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROR(x, n) ((x) >> (n) | (x) << (32 - (n)))

// The constants are the first 32 bits of the fractional parts of the square and cube roots of the first primes
// (FIPS 180-4, sections 4.2.2 and 5.3.3). A double holds them with 48 bits of fraction.
static void constants(uint32_t h[8], uint32_t k[64]) {
	for (int n = 2, i = 0; i < 64; n++) {
		int prime = 1;
		for (int d = 2; d * d <= n; d++)
			prime = prime && n % d;
		if (!prime)
			continue;
		double s = sqrt(n), c = cbrt(n);
		if (i < 8)
			h[i] = (uint32_t)((s - floor(s)) * 4294967296.0);
		k[i++] = (uint32_t)((c - floor(c)) * 4294967296.0);
	}
}

// block is the compression function (section 6.2.2).
static void block(uint32_t h[8], const uint32_t k[64], const unsigned char p[64]) {
	uint32_t w[64], v[8];
	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | p[4 * i + 1] << 16 | p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + (ROR(w[i - 15], 7) ^ ROR(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
		       (ROR(w[i - 2], 17) ^ ROR(w[i - 2], 19) ^ w[i - 2] >> 10);
	memcpy(v, h, sizeof v);
	for (int i = 0; i < 64; i++) {
		uint32_t t1 = v[7] + (ROR(v[4], 6) ^ ROR(v[4], 11) ^ ROR(v[4], 25)) + ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
		uint32_t t2 = (ROR(v[0], 2) ^ ROR(v[0], 13) ^ ROR(v[0], 22)) + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
		memmove(v + 1, v, 7 * sizeof *v);
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

int sha256_file(FILE *f, unsigned long long size, char hex[65]) {
	uint32_t h[8], k[64];
	unsigned char p[64];
	unsigned long long left = size;
	constants(h, k);
	rewind(f);
	for (; left >= 64; left -= 64) {
		if (fread(p, 1, 64, f) != 64)
			return -1;
		block(h, k, p);
	}
	memset(p, 0, sizeof p);
	if (fread(p, 1, left, f) != left)
		return -1;
	p[left] = 0x80;
	if (left >= 56) { // no room for the length
		block(h, k, p);
		memset(p, 0, sizeof p);
	}
	for (int i = 0; i < 8; i++)
		p[63 - i] = (unsigned char)(size * 8 >> 8 * i);
	block(h, k, p);
	for (int i = 0; i < 8; i++)
		sprintf(hex + 8 * i, "%08x", h[i]);
	return 0;
}
