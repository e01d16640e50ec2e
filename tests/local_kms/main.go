// local_kms: nsmithuk's local-kms, an emulator of AWS KMS, for the tests of the provider.
//
// Its own program listens on every address; this one on 127.0.0.1 alone, on a free port. Prints
// LOCAL_KMS=URL and an empty line, keeps its keys in a temporary folder, and ends at the end of its
// standard input, or with SIGTERM.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	folder, err := os.MkdirTemp("", "dekhand-local-kms.")
	check(err)
	defer os.RemoveAll(folder)
	config.AWSAccountId = "111122223333"
	config.AWSRegion = "us-east-1"
	config.DatabasePath = folder
	database := data.NewDatabase(folder)
	defer database.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		src.HandleRequest(w, r, database)
	}))
	silent, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	check(err)
	check(syscall.Dup3(int(silent.Fd()), 2, 0)) // it logs each call
	fmt.Printf("LOCAL_KMS=http://%s\n\n", listener.Addr())
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end <- os.Interrupt
	}()
	<-end
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
