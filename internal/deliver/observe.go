package deliver

// observe tells Config.Observe what came of a group.
func (d *Deliverer) observe(g *group) {
	if d.config.Observe == nil {
		return
	}
	for i := range g.rcpts {
		r := &g.rcpts[i]
		d.config.Observe(r.route, r.reply)
		for _, s := range r.same {
			d.config.Observe(s, r.reply)
		}
	}
}
