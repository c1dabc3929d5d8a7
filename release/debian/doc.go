// Package debian has what the Debian package is made of (release/deb makes it), and the test that installs it, upgrades
// it, removes and purges it.
package debian
