package app

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"davit/gateway"
	"davit/gateway/people"
)

// TestConsoleTakesTheServersLimits: the console's plain form knows how long a file
// may be, as the API does, and how large an image.
func TestConsoleTakesTheServersLimits(t *testing.T) {
	o := testOptions(t, t.TempDir())
	o.MaxUpload, o.MaxImage = 100_000, 50_000
	s, _ := startServer(t, o)
	ann := signIn(t, s, o.Data)
	if status, answer := ask(t, s, ann, "POST /v1/image-types", "application/json", strings.NewReader(`{"id":"application"}`)); status != http.StatusCreated {
		t.Fatalf("%d %s", status, answer)
	}
	if _, page := ask(t, s, ann, "GET /new/image", "", nil); !strings.Contains(page, "An image has at most 48.8 KiB") {
		t.Errorf("the page does not tell the limit: %s", page)
	}
	for _, c := range []struct {
		size, status int
		word         string
	}{
		{50_000, http.StatusOK, "Name and version"}, // after the redirect
		{50_001, http.StatusRequestEntityTooLarge, "50000 bytes"},
		{100_001, http.StatusRequestEntityTooLarge, "50000 bytes"}, // the image is too large before the file is too long
	} {
		if status, page := sendForm(t, s, ann, bytes.Repeat([]byte{'x'}, c.size)); status != c.status || !strings.Contains(page, c.word) {
			t.Errorf("a form with %d bytes: %d %s; want %d and %q", c.size, status, page, c.status, c.word)
		}
	}
	// Intel HEX is longer than its image: here the file itself passes its limit.
	line := ":10000000" + strings.Repeat("00", 16) + "F0\n"
	if status, page := sendForm(t, s, ann, []byte(strings.Repeat(line, 100_000/len(line)+1))); status != http.StatusRequestEntityTooLarge || !strings.Contains(page, "longer than this server takes, 100000 bytes") {
		t.Errorf("a file that is too long: %d %s", status, page)
	}
}

// sendForm uploads a file with the console's form.
func sendForm(t *testing.T, s *Server, session *http.Cookie, file []byte) (int, string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreateFormFile("file", "firmware.hex")
	if err == nil {
		_, err = part.Write(file)
	}
	if err == nil {
		err = form.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return ask(t, s, session, "POST /new/image", form.FormDataContentType(), &body)
}

// signIn makes the first administrator and returns the cookie of their session.
func signIn(t *testing.T, s *Server, data string) *http.Cookie {
	t.Helper()
	token, err := os.ReadFile(TokenFile(data))
	if err != nil {
		t.Fatal(err)
	}
	session, err := s.people.FirstAdmin(t.Context(), strings.TrimSpace(string(token)), people.NewUser{Name: "ann", Password: "correct horse"}, "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	gateway.SetSessionCookie(w, httptest.NewRequest(http.MethodGet, "/", nil), session)
	return w.Result().Cookies()[0]
}

// ask makes a request as a browser does.
func ask(t *testing.T, s *Server, session *http.Cookie, call, contentType string, body io.Reader) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(call, " ")
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addresses().HTTP+path, body)
	if err != nil {
		t.Fatal(err)
	}
	jar.SetCookies(req.URL, []*http.Cookie{session})
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := (&http.Client{Jar: jar}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}
