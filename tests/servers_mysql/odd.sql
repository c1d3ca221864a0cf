SET sql_mode='';
CREATE TABLE `we``ird na,me(/` (`a b` int PRIMARY KEY AUTO_INCREMENT, `c'd` varchar(40), `e"f` blob, g geometry, h bit(12), j json,
  d date, dt datetime(6), ts timestamp NULL, v decimal(30,10), f double, gen int AS (length(`c'd`)) STORED, gv int AS (y*3) VIRTUAL,
  en enum('a','b''c'), st set('x','y'), bin varbinary(20), t text COMMENT 'AUTO_INCREMENT=7; -- no', y year, tm time(3)) AUTO_INCREMENT=500;
INSERT INTO `we``ird na,me(/` (`c'd`,`e"f`,g,h,j,d,dt,ts,v,f,en,st,bin,t,y,tm) VALUES
  ('it''s),(\n', x'00ff5c27', ST_GeomFromText('POINT(1 2)'), b'101', '{"a":[1,"x)"]}', '0000-00-00', '2020-01-01 00:00:00.123456',
   '2021-05-05 12:00:00', 1.5, 1e300, 'b''c', 'x,y', x'00', concat('quote \' dq " bs \\ nl \n cr \r nul ', char(0), ' tab \t Z ', char(26),
   ' emoji 😀 ); INSERT INTO `x` VALUES (1);'), 2020, '-12:00:00.5'),
  (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '-- comment\n/* x */', NULL, NULL),
  ('', '', NULL, NULL, '[]', '2020-02-30', NULL, NULL, NULL, NULL, '', '', '', '', 1999, NULL);
CREATE TABLE my1 (a int, b varchar(10), c float) ENGINE=MyISAM;
INSERT INTO my1 VALUES (1,'x',0.1),(2,'y',1e-30);
CREATE TABLE empty1 (a int);
CREATE TABLE part1 (a int, b int, PRIMARY KEY (a,b)) PARTITION BY HASH(a) PARTITIONS 3;
INSERT INTO part1 VALUES (1,2),(3,4),(5,6);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent(id));
CREATE TABLE aaa_child (id int PRIMARY KEY, p int, FOREIGN KEY (p) REFERENCES parent(id));
INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1,1); INSERT INTO aaa_child VALUES (1,1);
CREATE TABLE l1 (a int, t varchar(20)) CHARACTER SET latin1; INSERT INTO l1 VALUES (1,'é');
CREATE TABLE `größe` (a int) COMMENT='ünï'; INSERT INTO `größe` VALUES (0),(-1);
CREATE VIEW v1 AS SELECT `a b` FROM `we``ird na,me(/`;
CREATE VIEW v0 AS SELECT * FROM v1;
CREATE TABLE inv (a int, b int DEFAULT 5 INVISIBLE); INSERT INTO inv (a,b) VALUES (1,7),(2,8);
CREATE TABLE zero (id int PRIMARY KEY AUTO_INCREMENT); SET sql_mode='NO_AUTO_VALUE_ON_ZERO'; INSERT INTO zero VALUES (0),(5); SET sql_mode='';
DELIMITER //
CREATE FUNCTION f1(x int) RETURNS int DETERMINISTIC BEGIN RETURN x+1; END//
CREATE DEFINER='gone'@'nowhere' PROCEDURE p1() BEGIN SELECT 'a;b'; -- DEFINER=`x`@`y`
END//
CREATE TRIGGER tr1 BEFORE INSERT ON child FOR EACH ROW BEGIN SET NEW.p = COALESCE(NEW.p,1); END//
CREATE EVENT ev1 ON SCHEDULE EVERY 1 DAY STARTS '2030-01-01 00:00:00' DO BEGIN DELETE FROM empty1; END//
DELIMITER ;
CREATE VIEW v2 AS SELECT f1(a) AS x FROM part1;
