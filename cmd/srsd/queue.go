package main

type queueCmd struct{}

func (queueCmd) Run(c console) error { return nil }
