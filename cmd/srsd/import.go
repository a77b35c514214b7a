package main

type importCmd struct{}

func (importCmd) Run(c console) error { return nil }
