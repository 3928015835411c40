// What tests put into pods to see whether they reach each other.
//
//	probe serve ADDRESS   answer every request with the pod's name
//	probe get URL         print the answer's body; exit 1 if it is not 200
//	probe append FILE     append the time to a file, print the file, and wait
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: probe serve ADDRESS | get URL | append FILE"))
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	switch argument := os.Args[2]; os.Args[1] {
	case "serve":
		name, _ := os.Hostname()
		fmt.Println(name, "serves", argument)
		http.HandleFunc("/", func(answer http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(answer, name)
		})
		go func() { fail(http.ListenAndServe(argument, nil)) }()
		<-ended
	case "get":
		client := http.Client{Timeout: 3 * time.Second}
		answer, err := client.Get(argument)
		fail(err)
		defer answer.Body.Close()
		io.Copy(os.Stdout, answer.Body)
		if answer.StatusCode != http.StatusOK {
			fail(fmt.Errorf("%s answered %s", argument, answer.Status))
		}
	case "append":
		file, err := os.OpenFile(argument, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644)
		fail(err)
		fmt.Fprintln(file, time.Now().UTC().Format(time.RFC3339Nano))
		file.Seek(0, io.SeekStart)
		io.Copy(os.Stdout, file)
		<-ended
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
