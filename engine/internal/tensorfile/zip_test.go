package tensorfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// dataPickle returns the pickle of an archive.
func dataPickle(t testing.TB, path string) []byte {
	t.Helper()
	r, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		if strings.HasSuffix(f.Name, "/data.pkl") {
			b, err := inflate(f, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("%s: no data.pkl", path)
	return nil
}

// torchZip packs a pickle with a few storages of 64 bytes.
func torchZip(t testing.TB, pickle []byte, constants bool) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	put := func(name string, data []byte) {
		e, err := w.CreateHeader(&zip.FileHeader{Name: "x/" + name, Method: zip.Store})
		if err == nil {
			_, err = e.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("data.pkl", pickle)
	if constants {
		put("constants.pkl", []byte("\x80\x02)."))
	}
	for i := range 6 {
		put(fmt.Sprintf("data/%d", i), bytes.Repeat([]byte{byte(i)}, 64))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// patch changes a field of every central directory entry of an archive.
func patch(archive []byte, at int, value uint32) []byte {
	b := bytes.Clone(archive)
	for i := 0; i+46 < len(b); i++ {
		if bytes.HasPrefix(b[i:], []byte("PK\x01\x02")) {
			binary.LittleEndian.PutUint32(b[i+at:], value)
		}
	}
	return b
}

func TestLyingZips(t *testing.T) {
	good := torchZip(t, []byte("\x80\x02}."), false)
	var twice bytes.Buffer
	w := zip.NewWriter(&twice)
	for range 2 {
		if _, err := w.Create("x/data.pkl"); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	const compressed, uncompressed, local = 20, 24, 42 // offsets of the directory's fields
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty dict":          {good, "no tensors"},
		"longer than file":    {patch(good, compressed, 1<<30), "the file"},
		"claims more":         {patch(good, uncompressed, 1<<30), "claims"},
		"outside":             {patch(good, local, 1<<30), "outside"},
		"entry twice":         {twice.Bytes(), "twice"},
		"no pickle":           {bytes.ReplaceAll(good, []byte("data.pkl"), []byte("nope.pkl")), "without data.pkl"},
		"no directory":        {good[:len(good)-30], "zip"},
		"deep pickle in dict": {torchZip(t, []byte("\x80\x02"+strings.Repeat("}X\x01\x00\x00\x00a", 1000)+"N"+strings.Repeat("s", 1000)+"."), false), "no tensors"},
	} {
		_, err := read(bytes.NewReader(c.b), int64(len(c.b)), "bad.pt")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v: expected one with %q", name, err, c.want)
		}
	}
}

// A module that is its own child, and one that holds its child under very many names, must both end.
func TestModuleLoopsEnd(t *testing.T) {
	object := "c__torch__\nM\n)\x81"
	loop := object + "q\x00}X\x04\x00\x00\x00selfh\x00sb."
	looped := torchZip(t, []byte("\x80\x02"+loop), true)
	if _, err := read(bytes.NewReader(looped), int64(len(looped)), "x"); err == nil || !strings.Contains(err.Error(), "no state dict") {
		t.Errorf("a loop without tensors: %v", err)
	}
	deep := "\x80\x02" + strings.Repeat(object+"}X\x01\x00\x00\x00a", 200) + "N" + strings.Repeat("sb", 200) + "."
	archive := torchZip(t, []byte(deep), true)
	if _, err := read(bytes.NewReader(archive), int64(len(archive)), "x"); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("200 levels of modules: %v", err)
	}
}
