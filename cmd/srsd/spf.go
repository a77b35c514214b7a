package main

type spfCmd struct{}

func (spfCmd) Run(c console) error { return nil }
