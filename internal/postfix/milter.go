package postfix

func (s *Server) serveMilter(c *conn) error { return errMalformed }
