package postfix

func (s *Server) servePolicy(c *conn) error { return errMalformed }
