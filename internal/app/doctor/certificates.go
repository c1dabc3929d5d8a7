package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// renewal is how long before its end a certificate should have been renewed, unless a third of its time is
// shorter, and overdue how long before that of a revocation list.
const (
	renewal = 30 * 24 * time.Hour
	overdue = 7 * 24 * time.Hour
)

// pair checks a certificate chain with its key, for a use and for hosts.
func (s System) pair(what, certFile, keyFile string, use x509.ExtKeyUsage, hosts []string) []Finding {
	loaded, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return []Finding{failed(fmt.Sprintf("%s %s with key %s cannot be used: %v", what, certFile, keyFile, err), "name the PEM file of the certificate with its chain, and the one of its own key")}
	}
	var chain []*x509.Certificate
	for _, der := range loaded.Certificate {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return []Finding{failed(fmt.Sprintf("%s: %s: %v", what, certFile, err), "have it issued anew")}
		}
		chain = append(chain, cert)
	}
	leaf := chain[0]
	found := s.lifetime(what+" "+certFile, leaf)
	for i, cert := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(cert); err != nil {
			found = append(found, failed(fmt.Sprintf("the chain in %s is out of order: certificate %d is not signed by the next one", certFile, i+1), "put the certificate first, then the one that signed it, and so on"))
			break
		}
		found = append(found, s.lifetime(fmt.Sprintf("authority %d of %s", i+1, certFile), cert)...)
	}
	if len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, use) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny) {
		found = append(found, failed(fmt.Sprintf("%s %s is for another use: clients and servers have different ones", what, certFile), "have one issued for this use (davit ca issue)"))
	}
	for _, host := range hosts {
		if err := leaf.VerifyHostname(host); err != nil {
			found = append(found, warning(fmt.Sprintf("%s %s is not for %s, by which it is reached: %v", what, certFile, host, err), "have it issued with that name (davit ca issue DIR --server "+host+",...)"))
		}
	}
	return orGood(found, "%s %s fits its key and is valid for %s", what, certFile, days(leaf.NotAfter.Sub(s.Now())))
}

// lifetime is what is wrong with the time of a certificate.
func (s System) lifetime(what string, cert *x509.Certificate) []Finding {
	now := s.Now()
	switch left := cert.NotAfter.Sub(now); {
	case now.Before(cert.NotBefore):
		return []Finding{failed(fmt.Sprintf("%s begins to be valid on %s only", what, stamp(cert.NotBefore)), "check the clock, or have it issued anew")}
	case left <= 0:
		return []Finding{failed(fmt.Sprintf("%s has come to its end on %s", what, stamp(cert.NotAfter)), "have it issued anew; a running service takes the new file by itself")}
	case left < min(renewal, cert.NotAfter.Sub(cert.NotBefore)/3):
		return []Finding{warning(fmt.Sprintf("%s ends in %s, on %s", what, days(left), stamp(cert.NotAfter)), "have it issued anew; a running service takes the new file by itself")}
	}
	return nil
}

// authorities checks a file with the certificates of authorities.
func (s System) authorities(what, file string) []Finding {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // told with the files
	}
	var found []Finding
	n := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil {
			found = append(found, failed(fmt.Sprintf("%s %s holds a PEM block %q that is no certificate", what, file, block.Type), "leave the certificates of authorities in it only"))
			continue
		}
		n++
		found = append(found, s.lifetime(fmt.Sprintf("authority %q in %s", cert.Subject.CommonName, file), cert)...)
	}
	if n == 0 && len(found) == 0 {
		return []Finding{failed(fmt.Sprintf("%s %s holds no certificate in PEM form", what, file), "name the PEM file with the authorities' certificates")}
	}
	return orGood(found, "%s %s holds %s in force", what, file, count(n, "authority"))
}

// revocations checks files with revocation lists.
func (s System) revocations(lists []string) []Finding {
	var found []Finding
	for _, file := range lists {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // told with the files
		}
		if block, _ := pem.Decode(data); block != nil {
			data = block.Bytes
		}
		crl, err := x509.ParseRevocationList(data)
		if err != nil {
			found = append(found, failed(fmt.Sprintf("--mqtts-client-crl %s is no revocation list: %v", file, err), "write it anew (davit ca crl)"))
			continue
		}
		switch left := crl.NextUpdate.Sub(s.Now()); {
		case left <= 0:
			found = append(found, failed(fmt.Sprintf("the revocation list %s was due to be renewed on %s: no certificate of its authority is believed", file, stamp(crl.NextUpdate)), "write it anew (davit ca crl); a running service takes it by itself"))
		case left < overdue:
			found = append(found, warning(fmt.Sprintf("the revocation list %s has to be renewed in %s", file, days(left)), "write it anew (davit ca crl)"))
		}
	}
	if len(lists) == 0 {
		return nil
	}
	return orGood(found, "%s in force", count(len(lists), "revocation list"))
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", int(d/(24*time.Hour)))
}

// namedHosts are the hosts of addresses that say one, loopback and every address left out.
func namedHosts(addrs ...string) []string {
	var hosts []string
	for _, addr := range addrs {
		host, _, err := net.SplitHostPort(addr)
		ip := net.ParseIP(host)
		if err != nil || host == "" || host == "localhost" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) || slices.Contains(hosts, host) {
			continue
		}
		hosts = append(hosts, host)
	}
	return hosts
}
