module srsd/bench

go 1.26

require srsd v0.0.0

replace srsd => ../
