// Package trust decides which firmware may reach an MCU: manifests of images,
// their signatures in minisign's format, key lists that root keys sign, and the
// policy that a bridge and the service check before a byte is used.
//
// A manifest is a text that names an image by size and SHA-256, says what it is
// for and until when, and lists the SHA-256 of every block, so that an image can
// be verified block by block while it arrives. Hashes of blocks are to be had
// from a Verified only, which only Policy.Check makes: nothing is valid half way.
//
// The package is pure: it owns no files, no clock (the time is an argument) and
// no goroutine, and imports only schemas and the minisign library. Texts are
// bounded before they are parsed, signatures are verified before a manifest is
// parsed, and every text has exactly one encoding.
//
// A block's hash has no prefix. There is no tree of hashes in which a node could
// pass for a leaf: the signed text lists the blocks in their order, and their
// count and lengths follow from size and block size. So equal blocks of two
// images have equal hashes, and a spool that has one need not fetch the other.
package trust
